package plugintest

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"example.com/threepid"
)

// renewTests are about the right code in a session that was validated before: like any other, it is
// a proof of the moment in which it is submitted.
func renewTests() []test {
	return []test{
		{"RenewedByALaterCode", testRenewedByALaterCode},
		{"RenewedByTheSameCodeSentAgain", testRenewedByTheSameCodeSentAgain},
		{"RenewedAfterTheValidationEnded", testRenewedAfterTheValidationEnded},
		{"NotRenewedByACodePastItsLifetime", testNotRenewedByACodePastItsLifetime},
		{"NotRenewedOnceRedeemed", testNotRenewedOnceRedeemed},
		{"RightAgainDespiteLimits", testRightAgainDespiteLimits},
	}
}

// limitedOrNot runs a test without limits and with them: the limits that a session has used must
// not decide whether a code counts.
func limitedOrNot(t *testing.T, run func(t *testing.T, limits func(*threepid.Options))) {
	t.Helper()
	for name, limits := range map[string]func(*threepid.Options){"limits off": func(*threepid.Options) {}, "limited": limited} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, limits)
		})
	}
}

// expectValidatedAt fails the test unless the session has been validated since that time.
func (n *node) expectValidatedAt(t *testing.T, sid string, since time.Time) {
	t.Helper()
	v, err := n.plugin.Validated(t.Context(), sid, secret)
	if err != nil || !v.ValidatedAt.Equal(since.Truncate(time.Millisecond)) {
		t.Errorf("validated at %v, %v; want %v", v.ValidatedAt.UTC(), err, since)
	}
}

func (n *node) expectLapsed(t *testing.T, sid string) {
	t.Helper()
	if v, err := n.plugin.Validated(t.Context(), sid, secret); !errors.Is(err, threepid.ErrExpired) {
		t.Errorf("Validated: %+v, %v", v, err)
	}
	if v, err := n.plugin.Redeem(t.Context(), sid, secret); !errors.Is(err, threepid.ErrExpired) {
		t.Errorf("Redeem: %+v, %v", v, err)
	}
}

func testRenewedByALaterCode(t *testing.T, open opener) {
	limitedOrNot(t, func(t *testing.T, limits func(*threepid.Options)) {
		n := start(t, open(t), limits)
		sid := n.validatedBy(secret, addPath, 1)
		n.clock.advance(23 * time.Hour)
		n.validatedBy(secret, addPath, 2)
		second := n.clock.Now()
		n.clock.advance(24*time.Hour - time.Millisecond)
		n.expectValidatedAt(t, sid, second)
		n.clock.advance(time.Millisecond)
		n.expectLapsed(t, sid)
	})
}

// testRenewedByTheSameCodeSentAgain sends the first code in the second SMS again.
func testRenewedByTheSameCodeSentAgain(t *testing.T, open opener) {
	limitedOrNot(t, func(t *testing.T, limits func(*threepid.Options)) {
		n := start(t, open(t), limits)
		sid := n.validatedBy(secret, addPath, 1)
		code := n.token()
		n.clock.advance(9 * time.Minute)
		n.validatedBy(secret, addPath, 2)
		if n.token() != code {
			t.Error("a resend within the code's lifetime brought another one")
		}
		n.expectValidatedAt(t, sid, n.clock.Now())
	})
}

// testRenewedAfterTheValidationEnded requests an SMS just before the validation ends and submits
// its code just after: the request extends nothing, and the code counts.
func testRenewedAfterTheValidationEnded(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	sid := n.validatedBy(secret, addPath, 1)
	n.clock.advance(24*time.Hour - time.Minute)
	n.mustRequest(addPath, attempt(2))
	n.clock.advance(2 * time.Minute)
	n.expectLapsed(t, sid)
	expect(t, n.add(alice, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	n.expectValidatedAt(t, sid, n.clock.Now())
	expectDone(t, n.add(alice, sid, secret), `{}`)
}

// testNotRenewedByACodePastItsLifetime submits an old code again: the response is as before, and
// nothing new is proved.
func testNotRenewedByACodePastItsLifetime(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.validatedBy(secret, addPath, 1)
	validated := n.clock.Now()
	n.clock.advance(10 * time.Minute)
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	n.expectValidatedAt(t, sid, validated)
	n.clock.advance(24*time.Hour - 10*time.Minute)
	n.expectLapsed(t, sid)
	expect(t, n.submit(sid, secret, n.token()), http.StatusBadRequest, "M_SESSION_EXPIRED")
}

func testNotRenewedOnceRedeemed(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.validatedBy(secret, addPath, 1)
	if _, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil {
		t.Fatal(err)
	}
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	if v, err := n.plugin.Redeem(t.Context(), sid, secret); !errors.Is(err, threepid.ErrNoSession) {
		t.Errorf("one code was redeemed twice: %+v, %v", v, err)
	}
}

// testRightAgainDespiteLimits uses up the wrong codes of a session or a client: the right code
// submitted again still succeeds.
func testRightAgainDespiteLimits(t *testing.T, open opener) {
	limitedOrNot(t, func(t *testing.T, limits func(*threepid.Options)) {
		n := start(t, open(t), limits)
		sid := n.validatedBy(secret, addPath, 1)
		for range 5 {
			expectSubmit(t, n.submit(sid, secret, wrong(n.token())), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		}
		expectSubmit(t, n.submit(sid, secret, wrong(n.token())), http.StatusBadRequest, "M_SESSION_EXPIRED")
		expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	})
}
