package plugintest

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
)

// recycledTests are about a number that its carrier gives to another person: all that the previous
// holder proved is void once the number was released or deleted.
func recycledTests() []test {
	return []test{
		{"RecycledNumberVoidsValidations", testRecycledNumberVoidsValidations},
		{"RecycledNumberVoidsCodes", testRecycledNumberVoidsCodes},
		{"RecycledNumberGetsANewCode", testRecycledNumberGetsANewCode},
		{"RecycledNumberIsProvedAgain", testRecycledNumberIsProvedAgain},
		{"RecycledNumberWithoutAnAccount", testRecycledNumberWithoutAnAccount},
		{"RecycledNumberOfClocksThatDiffer", testRecycledNumberOfClocksThatDiffer},
		{"RecycledNumberIsRememberedAsLongAsSessions", testRecycledNumberIsRememberedAsLongAsSessions},
		{"RecycledNumberIsUnblocked", testRecycledNumberIsUnblocked},
		{"RecycledNumberWhileRedeemed", testRecycledNumberWhileRedeemed},
		{"RecycledNumberWhileAdded", testRecycledNumberWhileAdded},
	}
}

// release releases the number from its account.
func (n *node) release(t *testing.T) {
	t.Helper()
	if err := n.plugin.ReleaseNumber(t.Context(), "+"+msisdn); err != nil && !errors.Is(err, threepid.ErrNoAccount) {
		t.Fatalf("Release: %v", err)
	}
}

// expectVoid fails the test if any call still accepts the session as a proof.
func (n *node) expectVoid(t *testing.T, sid, clientSecret string) {
	t.Helper()
	if v, err := n.plugin.Validated(t.Context(), sid, clientSecret); !errors.Is(err, threepid.ErrNotValidated) {
		t.Errorf("Validated: %+v, %v", v, err)
	}
	if v, err := n.plugin.Redeem(t.Context(), sid, clientSecret); !errors.Is(err, threepid.ErrNotValidated) {
		t.Errorf("Redeem: %+v, %v", v, err)
	}
	expect(t, n.add(alice, sid, clientSecret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
}

// testRecycledNumberVoidsValidations obtains validations for every purpose as the previous holder,
// before the new holder gets the number.
func testRecycledNumberVoidsValidations(t *testing.T, open opener) {
	for name, change := range map[string]func(*threepid.Options){
		"limits off": func(*threepid.Options) {}, "limited": limited,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t), authenticated, change)
			register, add := n.validatedBy("register", regPath, 1), n.validatedBy("add", addPath, 1)
			n.associate(t, alice, msisdn)
			password, code := n.validatedBy("password", pwdPath, 1), n.token()
			n.release(t)

			sid := n.validatedBy("anew", addPath, 1)
			expectDone(t, n.add(bob, sid, "anew"), `{}`)
			n.expectVoid(t, register, "register")
			n.expectVoid(t, add, "add")
			n.expectVoid(t, password, "password")
			expect(t, n.submit(password, "password", code), http.StatusBadRequest, "M_SESSION_EXPIRED")
		})
	}
}

// testRecycledNumberVoidsCodes submits a code just after the release that was sent just before it,
// and looks the session up when the release is old.
func testRecycledNumberVoidsCodes(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	n.associate(t, alice, msisdn)
	sid := n.mustRequest(pwdPath, attempt(1)).text("sid")
	code := n.token()
	n.release(t)
	n.clock.advance(5 * time.Minute)
	expect(t, n.submit(sid, secret, wrong(code)), http.StatusBadRequest, "M_SESSION_EXPIRED") // it is not even compared
	expect(t, n.submit(sid, secret, code), http.StatusBadRequest, "M_SESSION_EXPIRED")
	n.expectVoid(t, sid, secret)
	n.clock.advance(23*time.Hour + 54*time.Minute)
	n.expectVoid(t, sid, secret)
	n.clock.advance(6 * time.Minute) // 24 h and 5 min after the release
	n.deleteExpired(t)
	for call, err := range n.look(t, sid, secret) {
		if err == nil {
			t.Errorf("%s takes it for a proof", call)
		}
	}
}

// look returns the results of the calls for hosts, of which Redeem is the last.
func (n *node) look(t *testing.T, sid, clientSecret string) map[string]error {
	t.Helper()
	_, validated := n.plugin.Validated(t.Context(), sid, clientSecret)
	_, redeemed := n.plugin.Redeem(t.Context(), sid, clientSecret)
	return map[string]error{"Validated": validated, "Redeem": redeemed}
}

// deleteExpired deletes what the plugin's janitor would have deleted by now.
func (n *node) deleteExpired(t *testing.T) {
	t.Helper()
	if _, err := n.store.DeleteExpired(t.Context(), n.clock.Now().Add(-24*time.Hour), 1000); err != nil {
		t.Fatal(err)
	}
}

// testRecycledNumberGetsANewCode requests another SMS in a session whose number was released: it
// has a new code, which proves the number.
func testRecycledNumberGetsANewCode(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	for i, before := range []string{"sent", "validated", "redeemed"} {
		sid := n.mustRequest(addPath, attempt(2*i+1)).text("sid")
		old := n.token()
		if before != "sent" {
			expect(t, n.submit(sid, secret, old), http.StatusOK, "")
		}
		if before == "redeemed" {
			if _, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil {
				t.Fatal(err)
			}
		}
		n.release(t)
		n.mustRequest(addPath, attempt(2*i+2))
		if n.token() == old { // by chance, once in a million
			t.Errorf("%s: the resend brought the old code", before)
		}
		expect(t, n.submit(sid, secret, old), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		if _, err := n.plugin.Validated(t.Context(), sid, secret); !errors.Is(err, threepid.ErrNotValidated) {
			t.Errorf("%s: Validated: %v", before, err)
		}
		expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
		if _, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil {
			t.Errorf("%s: Redeem: %v", before, err)
		}
	}
}

// testRecycledNumberWithoutAnAccount uses a host that keeps its accounts itself, and a number
// without an account.
func testRecycledNumberWithoutAnAccount(t *testing.T, open opener) {
	for name, change := range map[string]func(Store) func(*threepid.Options){
		"own accounts": func(Store) func(*threepid.Options) { return authenticated },
		"look-up only": func(st Store) func(*threepid.Options) {
			return func(o *threepid.Options) { o.Accounts = store.OwnerFunc(st.Owner) }
		},
	} {
		st := open(t)
		n := start(t, st, change(st))
		sid := n.validatedBy(secret, regPath, 1)
		if err := n.plugin.ReleaseNumber(t.Context(), "+"+msisdn); !errors.Is(err, threepid.ErrNoAccount) {
			t.Errorf("%s: Release: %v", name, err)
		}
		for call, err := range n.look(t, sid, secret) {
			if !errors.Is(err, threepid.ErrNotValidated) {
				t.Errorf("%s: %s: %v", name, call, err)
			}
		}
	}
}

// testRecycledNumberOfClocksThatDiffer releases the number on a node whose clock is two seconds
// ahead or behind.
func testRecycledNumberOfClocksThatDiffer(t *testing.T, open opener) {
	for _, ahead := range []time.Duration{2 * time.Second, -2 * time.Second} {
		st := open(t)
		one := start(t, st, authenticated)
		other := startWith(t, st, one.sms, &logs{}, authenticated)
		other.clock.advance(ahead)
		old := one.validatedBy("old", addPath, 1)
		one.clock.advance(time.Second)
		other.clock.advance(time.Second)
		other.release(t)
		one.expectVoid(t, old, "old")
		other.expectVoid(t, old, "old")
		sid := one.validatedBy(secret, addPath, 1)
		expectDone(t, other.add(bob, sid, secret), `{}`)
	}
}

// testRecycledNumberIsRememberedAsLongAsSessions extends a session of the new holder again and
// again, and deletes what has expired.
func testRecycledNumberIsRememberedAsLongAsSessions(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	n.release(t)
	for i := range 6 {
		n.mustRequest(addPath, attempt(2*i))
		n.clock.advance(9 * time.Minute)
		sid := n.mustRequest(addPath, attempt(2*i+1)).text("sid") // the same code again
		n.clock.advance(9 * time.Minute)
		n.deleteExpired(t)
		expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
		n.clock.advance(24*time.Hour - time.Minute)
		n.deleteExpired(t)
		if _, err := n.plugin.Validated(t.Context(), sid, secret); err != nil {
			t.Fatalf("round %d: Validated: %v", i, err)
		}
	}
}

func testRecycledNumberIsUnblocked(t *testing.T, open opener) {
	n := start(t, open(t), authenticated, limited)
	sid := n.validatedBy(secret, addPath, 1)
	n.release(t)
	if _, err := n.plugin.Unblock(t.Context(), "+"+msisdn); err != nil {
		t.Fatal(err)
	}
	n.expectVoid(t, sid, secret)
}

// testRecycledNumberIsProvedAgain adds and deletes the number in another session while one is
// validated: a new SMS and its code prove the number in that session too.
func testRecycledNumberIsProvedAgain(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	sid := n.validatedBy(secret, addPath, 1)
	expectDone(t, n.add(alice, n.validatedBy("other", addPath, 1), "other"), `{}`)
	expectDone(t, n.authed(alice, http.MethodPost, deletePath, deleteOurs), deletedBody)
	if again := n.validatedBy(secret, addPath, 2); again != sid {
		t.Errorf("another session: %s, %s", again, sid)
	}
	expectDone(t, n.add(alice, sid, secret), `{}`)
}

// overtaken is a store that runs overtake between the reads and the writes of its units of work.
type overtaken struct {
	Store
	overtake func()
}

func (o *overtaken) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	return o.Store.Update(ctx, names, func(rows *store.Rows) error {
		err := change(rows)
		if err == nil { // otherwise the unit starts again
			o.overtake()
		}
		return err
	})
}

// testRecycledNumberWhileRedeemed releases the number after Redeem has read its epoch: if the
// release completes before Redeem returns, the host gets no validation. The release may also wait
// until Redeem has returned.
func testRecycledNumberWhileRedeemed(t *testing.T, open opener) {
	for _, before := range []string{"never released", "released before"} {
		t.Run(before, func(t *testing.T) {
			t.Parallel()
			st := open(t)
			other := start(t, st)
			o := &overtaken{Store: st, overtake: func() {}}
			n := startWith(t, o, smstest.New(), &logs{})
			if before == "released before" {
				other.release(t)
			}
			sid := other.validatedBy(secret, pwdPathFor(t, other), 1)
			released, begun := make(chan struct{}), false
			overtook := false
			o.overtake = func() {
				if !begun {
					begun = true
					go func() {
						defer close(released)
						other.release(t)
					}()
				}
				select {
				case <-released:
					overtook = true
				case <-time.After(300 * time.Millisecond): // it waits for this unit
				}
			}
			_, err := n.plugin.Redeem(t.Context(), sid, secret)
			if !begun {
				t.Fatal("Redeem reads no epoch")
			}
			<-released
			switch {
			case overtook && !errors.Is(err, threepid.ErrNotValidated):
				t.Errorf("Redeem returned %v after the release", err)
			case !overtook && err != nil:
				t.Errorf("Redeem: %v", err)
			}
		})
	}
}

// pwdPathFor gives the number an account, so that its password may be reset.
func pwdPathFor(t *testing.T, n *node) string {
	t.Helper()
	n.associate(t, alice, msisdn)
	return pwdPath
}

// associating runs a function before each association.
type associating struct {
	Store
	before func()
}

func (a associating) Associate(ctx context.Context, as store.Association) error {
	a.before()
	return a.Store.Associate(ctx, as)
}

// testRecycledNumberWhileAdded releases the number while it is being added: after the validation
// was redeemed and before the account has the number.
func testRecycledNumberWhileAdded(t *testing.T, open opener) {
	st := open(t)
	other := start(t, st)
	associated := 0
	release := func() {
		associated++
		other.release(t)
	}
	n := startOn(t, gin.New(), associating{st, release}, other.sms, &logs{}, authenticated)
	n.sms = other.sms
	sid := n.validatedBy(secret, addPath, 1)
	for range 2 {
		expect(t, n.add(alice, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	}
	if owner, err := st.Owner(t.Context(), msisdn); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the number is on the account of %q, error %v", owner, err)
	}
	if associated != 1 { // the second time the release is seen earlier
		t.Errorf("the number was put on the account %d times", associated)
	}
}
