package plugintest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
)

// testNumberTests are about numbers to which no SMS is ever sent.
func testNumberTests() []test {
	return []test{
		{"TestNumberIsValidatedByItsCode", testTestNumberIsValidatedByItsCode},
		{"TestNumberIsBeyondPolicyAndLimits", testTestNumberIsBeyondPolicyAndLimits},
		{"TestNumberWrongCodesAreLimited", testTestNumberWrongCodesAreLimited},
		{"TestNumberSessionsAreLimited", testTestNumberSessionsAreLimited},
		{"TestNumberFiveWrongTries", testTestNumberFiveWrongTries},
		{"TestNumberUntil", testTestNumberUntil},
		{"TestNumberWithAnAccount", testTestNumberWithAnAccount},
		{"TestNumberLooksAsAnyOther", testTestNumberLooksAsAnyOther},
		{"TestNumbersAreCopied", testTestNumbersAreCopied},
	}
}

const fixedCode = "013579"

// testNumber makes the tests' number a test number.
func testNumber(o *threepid.Options) {
	o.Policy.TestNumbers = []limits.TestNumber{{Number: "+" + msisdn, Code: fixedCode}}
}

func testTestNumberIsValidatedByItsCode(t *testing.T, open opener) {
	for digits := 6; digits <= 9; digits++ {
		t.Run(fmt.Sprint(digits), func(t *testing.T) {
			t.Parallel()
			code := "001234567"[:digits]
			n := start(t, open(t), func(o *threepid.Options) {
				o.TokenDigits = digits
				o.Policy.TestNumbers = []limits.TestNumber{{Number: inFrance, Code: "9" + code[1:]}, {Number: "+" + msisdn, Code: code}}
			})
			sid := n.mustRequest(addPath, attempt(1)).text("sid")
			for _, no := range []string{wrong(code), "9" + code[1:], code[1:]} {
				expectSubmit(t, n.submit(sid, secret, no), http.StatusBadRequest, "M_TOKEN_INCORRECT")
			}
			expectSubmit(t, n.submit(sid, "another", code), http.StatusBadRequest, "M_INVALID_PARAM")
			if _, err := n.plugin.Validated(t.Context(), sid, secret); !errors.Is(err, threepid.ErrNotValidated) {
				t.Errorf("before the code: %v", err)
			}
			expectSubmit(t, n.submit(sid, secret, code), http.StatusOK, "")
			expectSubmit(t, n.submit(sid, secret, code), http.StatusOK, "") // submitted again
			if v, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil || v.MSISDN != msisdn {
				t.Errorf("%+v, %v", v, err)
			}
			n.expectTexts(t, 0)

			// The code is right for no other number.
			sid = n.mustRequest(addPath, dial(inGB)).text("sid")
			n.expectTexts(t, 1)
			if n.token() != code {
				expectSubmit(t, n.submit(sid, "of"+inGB[1:], code), http.StatusBadRequest, "M_TOKEN_INCORRECT")
			}
			if strings.Contains(n.logs.String(), code) {
				t.Errorf("the log contains the code: %s", n.logs)
			}
		})
	}
}

// testTestNumberIsBeyondPolicyAndLimits requests more SMS than any number gets, under a policy that
// refuses the number.
func testTestNumberIsBeyondPolicyAndLimits(t *testing.T, open opener) {
	n := start(t, open(t), testNumber, limited, func(o *threepid.Options) {
		o.Policy.RequireValidNumbers = true
		o.Policy.AllowCountries, o.Policy.DenyPrefixes = []string{"FR"}, []string{"+44"}
		o.Policy.Approve = func(context.Context, limits.ApprovalRequest) (limits.Approval, error) {
			return limits.Approved, limits.ErrDenied
		}
	})
	var sid string
	for i := range 25 {
		sid = n.mustRequest(addPath, attempt(i)).text("sid")
	}
	expectSubmit(t, n.submit(sid, secret, wrong(fixedCode)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusOK, "")
	n.expectTexts(t, 0)
	expectDenied(t, n.post(addPath, request(map[string]any{"phone_number": "07400123456"})))
}

// testTestNumberWrongCodesAreLimited makes clients guess a code that never changes: they may start
// any number of sessions, but get no more guesses than for another number.
func testTestNumberWrongCodesAreLimited(t *testing.T, open opener) {
	n := start(t, open(t), testNumber, limited)
	compared := 0
	for i := range 40 {
		sid := n.mustRequest(addPath, attempt(i)).text("sid")
		for range 5 {
			switch a := n.submit(sid, secret, wrong(fixedCode)); a.errcode() {
			case "M_TOKEN_INCORRECT":
				compared++
			case "M_LIMIT_EXCEEDED", "M_SESSION_EXPIRED":
			default:
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
	}
	if compared > 100 {
		t.Errorf("%d wrong codes were compared", compared)
	}
	n.expectTexts(t, 0)
}

// testTestNumberSessionsAreLimited makes a client send ever new secrets, each of which creates a
// row.
func testTestNumberSessionsAreLimited(t *testing.T, open opener) {
	n := start(t, open(t), testNumber, limited)
	sessions := 0
	for range 100 {
		if a := n.probe("client", addPath, "+"+msisdn); a.status == http.StatusOK {
			sessions++
		} else {
			expect(t, a, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
		}
	}
	if sessions > 60 {
		t.Errorf("one client made %d sessions at once", sessions)
	}
	expect(t, n.probe("another", addPath, "+"+msisdn), http.StatusOK, "")
}

func testTestNumberFiveWrongTries(t *testing.T, open opener) {
	n := start(t, open(t), testNumber)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	for range 5 {
		expectSubmit(t, n.submit(sid, secret, wrong(fixedCode)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	}
	expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusBadRequest, "M_SESSION_EXPIRED")
	n.mustRequest(addPath, attempt(1)) // seen: it adds no tries
	expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusBadRequest, "M_SESSION_EXPIRED")
	n.mustRequest(addPath, attempt(2))
	expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusOK, "")
}

// testTestNumberUntil makes the number an ordinary one when Until has passed.
func testTestNumberUntil(t *testing.T, open opener) {
	for _, row := range []struct {
		name   string
		before time.Duration // time left
		test   bool
	}{
		{"before", time.Millisecond, true}, {"at", 0, false}, {"after", -time.Hour, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			until := time.Date(2026, 3, 2, 0, 0, 0, 0, time.FixedZone("", 7200))
			n := start(t, open(t), func(o *threepid.Options) {
				o.Policy.TestNumbers = []limits.TestNumber{{Number: "+" + msisdn, Code: fixedCode, Until: until}}
			})
			n.clock.advance(until.Sub(n.clock.Now()) - 2*time.Minute)
			early := n.mustRequest(addPath, request(map[string]any{"client_secret": "early"})).text("sid")
			n.expectTexts(t, 0)
			n.clock.advance(until.Sub(n.clock.Now()) - row.before)
			sid := n.mustRequest(addPath, attempt(1)).text("sid")
			if row.test {
				n.expectTexts(t, 0)
				expectSubmit(t, n.submit(early, "early", fixedCode), http.StatusOK, "")
				expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusOK, "")
				return
			}
			n.expectTexts(t, 1)
			if n.token() != fixedCode {
				expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusBadRequest, "M_TOKEN_INCORRECT")
			}
			if row.before == 0 { // by then the code has expired
				expectSubmit(t, n.submit(early, "early", fixedCode), http.StatusBadRequest, "M_TOKEN_INCORRECT")
			}
			expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
		})
	}
}

func testTestNumberWithAnAccount(t *testing.T, open opener) {
	n := start(t, open(t), testNumber)
	expect(t, n.post(pwdPath, attempt(1)), http.StatusBadRequest, "M_THREEPID_NOT_FOUND")
	n.associate(t, "@reviewer:example.org", msisdn)
	expect(t, n.post(addPath, attempt(1)), http.StatusBadRequest, "M_THREEPID_IN_USE")
	expect(t, n.post(regPath, attempt(1)), http.StatusBadRequest, "M_THREEPID_IN_USE")
	sid := n.mustRequest(pwdPath, attempt(1)).text("sid")
	expectSubmit(t, n.submit(sid, secret, fixedCode), http.StatusOK, "")
	n.expectTexts(t, 0)
}

// testTestNumberLooksAsAnyOther compares its responses and its row with those of a number that is
// sent an SMS.
func testTestNumberLooksAsAnyOther(t *testing.T, open opener) {
	test, other := start(t, open(t), testNumber), start(t, open(t))
	a, b := test.mustRequest(addPath, attempt(1)), other.mustRequest(addPath, attempt(1))
	if !slices.Equal(slices.Sorted(maps.Keys(a.fields)), slices.Sorted(maps.Keys(b.fields))) || len(a.text("sid")) != len(b.text("sid")) {
		t.Errorf("responses %s, %s", a.body, b.body)
	}
	s, err := test.sessionOf(t)
	if err != nil {
		t.Fatal(err)
	}
	like, err := other.sessionOf(t)
	if err != nil {
		t.Fatal(err)
	}
	if s.SID != a.text("sid") || len(s.Nonce) != len(like.Nonce) || s.ClaimID == "" {
		t.Errorf("session %+v", s)
	}
	if s.Provider != "" {
		t.Errorf("no SMS was sent, but the session's provider is %q", s.Provider)
	}
	s.SID, s.Nonce, s.ClaimID, s.Provider = like.SID, like.Nonce, like.ClaimID, like.Provider
	if fmt.Sprint(s) != fmt.Sprint(like) {
		t.Errorf("session\n%+v, another number's is\n%+v", s, like)
	}
}

func testTestNumbersAreCopied(t *testing.T, open opener) {
	numbers := []limits.TestNumber{{Number: "+" + msisdn, Code: fixedCode}}
	n := start(t, open(t), func(o *threepid.Options) { o.Policy.TestNumbers = numbers })
	numbers[0] = limits.TestNumber{Number: inGB, Code: "111111"}
	n.mustRequest(addPath, attempt(1))
	n.expectTexts(t, 0)
	n.mustRequest(addPath, dial(inGB))
	n.expectTexts(t, 1)
}
