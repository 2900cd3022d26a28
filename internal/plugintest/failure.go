package plugintest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// failureTests make providers and stores fail.
func failureTests() []test {
	return []test{
		{"ProviderFailures", testProviderFailures},
		{"ProviderEcho", testProviderEcho},
		{"SenderThatPanicsOrHangs", testSenderThatPanicsOrHangs},
		{"StoreFailures", testStoreFailures},
		{"AccountsFailure", testAccountsFailure},
		{"StoreFailsAfterTheSMSWasSent", testStoreFailsAfterTheSMSWasSent},
		{"StoreFailsForAMoment", testStoreFailsForAMoment},
		{"CloseWhileAnSMSIsNotRecorded", testCloseWhileAnSMSIsNotRecorded},
		{"TokenSettlesItsAttempt", testTokenSettlesItsAttempt},
		{"ClaimRunAgainAfterItWasKept", testClaimRunAgainAfterItWasKept},
	}
}

func testProviderFailures(t *testing.T, open opener) {
	leak := errors.New("provider said: number 07700900001 text 123456 key s3cr3t")
	rows := []struct {
		name    string
		err     error
		status  int
		errcode string
	}{
		{"rejected for good", errors.Join(leak, sms.ErrRejected), http.StatusBadRequest, "M_DESTINATION_REJECTED"},
		{"failed", leak, http.StatusBadGateway, "M_SEND_ERROR"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t))
			n.sms.Fail(row.err)
			a := n.post(addPath, attempt(1))
			expect(t, a, row.status, row.errcode)
			if strings.Contains(a.body, "provider") || strings.Contains(a.body, "s3cr3t") {
				t.Errorf("the provider's words reached the client: %s", a.body)
			}
			// The attempt is not seen: it may be repeated, and sends the same message.
			n.mustRequest(addPath, attempt(1))
			calls := n.sms.Calls()
			if len(calls) != 2 || calls[0].ID != calls[1].ID || calls[0].Text != calls[1].Text {
				t.Errorf("calls %+v", calls)
			}
		})
	}
}

// testProviderEcho makes the provider return all that it received: nothing of it may be logged.
func testProviderEcho(t *testing.T, open opener) {
	n := start(t, open(t))
	sender := sms.Func(func(ctx context.Context, m sms.Message) error {
		_ = n.sms.Send(ctx, m)
		return errors.New("cannot text " + m.Text + " to " + m.To + ", nor to 07700900001 or 7700900001")
	})
	other := startWith(t, open(t), sender, n.logs)
	expect(t, other.post(addPath, attempt(1)), http.StatusBadGateway, "M_SEND_ERROR")
	if !strings.Contains(n.logs.String(), "cannot text ****** is your") {
		t.Errorf("the log does not contain the cause: %s", n.logs)
	}
}

func testSenderThatPanicsOrHangs(t *testing.T, open opener) {
	const timeout, late = 100 * time.Millisecond, 10 * time.Second
	for name, sender := range map[string]sms.Sender{
		"panics": smstest.Panicking("boom"),
		"hangs":  smstest.Hang(),
		"ignores its context": sms.Func(func(_ context.Context, _ sms.Message) error {
			time.Sleep(2 * late)
			return nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startWith(t, open(t), sender, &logs{}, func(o *threepid.Options) { o.SendTimeout = timeout })
			begin := time.Now()
			expect(t, n.post(addPath, attempt(1)), http.StatusBadGateway, "M_SEND_ERROR")
			if took := time.Since(begin); took > late {
				t.Errorf("responded after %v", took)
			}
		})
	}
}

// both joins a wrapped store with the accounts of the store that it wraps.
type both struct {
	store.Store
	store.Accounts
}

func testStoreFailures(t *testing.T, open opener) {
	broken := errors.New("disk on fire at /var/lib/secret")
	for _, op := range []string{"view", "update"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			inner := open(t)
			failing := storetest.Failing(inner, func(o string) error {
				if o == op {
					return broken
				}
				return nil
			})
			n := start(t, both{failing, inner})
			a := n.post(addPath, attempt(1))
			expect(t, a, http.StatusInternalServerError, "M_UNKNOWN")
			if a.text("error") != "Internal server error" {
				t.Errorf("error %q", a.text("error"))
			}
			if !strings.Contains(n.logs.String(), "disk on fire") {
				t.Error("the cause was not logged")
			}
			n.expectTexts(t, 0)
		})
	}
}

func testAccountsFailure(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) {
		o.Accounts = store.OwnerFunc(func(context.Context, string) (string, error) { return "", errors.New("no users table") })
	})
	expect(t, n.post(addPath, attempt(1)), http.StatusInternalServerError, "M_UNKNOWN")
	n.expectTexts(t, 0)
}

// flaky is a store whose nth update fails if fails(n) says so. The first update is the claim.
func flaky(inner Store, fails func(update int64) bool) Store {
	var updates atomic.Int64
	return both{storetest.Failing(inner, func(op string) error {
		if op == storetest.OpUpdate && fails(updates.Add(1)) {
			return errors.New("gone for a while")
		}
		return nil
	}), inner}
}

func allButTheClaim(update int64) bool { return update > 1 }

// testStoreFailsAfterTheSMSWasSent makes the record of an accepted SMS fail. The caller is not told
// that the attempt is seen, because no other node knows it. This node does not send the SMS again,
// however long the store fails, and the code is valid.
func testStoreFailsAfterTheSMSWasSent(t *testing.T, open opener) {
	var broken atomic.Bool
	broken.Store(true)
	n := start(t, flaky(open(t), func(update int64) bool { return update > 1 && broken.Load() }))
	expect(t, n.post(addPath, attempt(1)), http.StatusInternalServerError, "M_UNKNOWN")
	if !strings.Contains(n.logs.String(), "cannot record") {
		t.Error("nothing was logged")
	}
	n.clock.advance(time.Minute) // the lease is over
	for _, i := range []int{1, 0, 2} {
		expect(t, n.post(addPath, attempt(i)), http.StatusInternalServerError, "M_UNKNOWN")
	}
	n.expectTexts(t, 1)
	broken.Store(false)
	waitUntil(t, "the text is on record", func() bool {
		s, err := n.sessionOf(t)
		return err == nil && s.Attempt == 1
	})
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	n.expectTexts(t, 1)
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}

// testStoreFailsForAMoment makes the record succeed at the second try.
func testStoreFailsForAMoment(t *testing.T, open opener) {
	n := start(t, flaky(open(t), func(update int64) bool { return update == 2 }))
	n.mustRequest(addPath, attempt(1))
	if s, err := n.sessionOf(t); err != nil || s.Attempt != 1 || strings.Contains(n.logs.String(), "cannot record") {
		t.Errorf("attempt %d, %v; log %s", s.Attempt, err, n.logs)
	}
}

// testCloseWhileAnSMSIsNotRecorded checks that Close does not wait for a store that is gone.
func testCloseWhileAnSMSIsNotRecorded(t *testing.T, open opener) {
	n := start(t, flaky(open(t), allButTheClaim))
	expect(t, n.post(addPath, attempt(1)), http.StatusInternalServerError, "M_UNKNOWN")
	closed := make(chan struct{})
	go func() {
		_ = n.plugin.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("Close hangs")
	}
}

// testTokenSettlesItsAttempt lets a node die before it records an SMS that arrived. The submitted
// code proves that it did.
func testTokenSettlesItsAttempt(t *testing.T, open opener) {
	inner := open(t)
	dead := start(t, flaky(inner, allButTheClaim))
	expect(t, dead.post(addPath, attempt(1)), http.StatusInternalServerError, "M_UNKNOWN")
	sess, err := dead.sessionOf(t)
	if err != nil {
		t.Fatal(err)
	}
	other := start(t, inner)
	expect(t, other.submit(sess.SID, secret, dead.token()), http.StatusOK, "")
	other.mustRequest(addPath, attempt(1))
	other.expectTexts(t, 0)
}

// repeating is a store that runs each unit again after it was stored, like one that lost its
// connection before the response to COMMIT.
type repeating struct{ store.Store }

func (r repeating) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	if err := r.Store.Update(ctx, names, change); err != nil {
		return err
	}
	return r.Store.Update(ctx, names, change)
}

// testClaimRunAgainAfterItWasKept checks that a unit that runs again recognizes its own claim.
func testClaimRunAgainAfterItWasKept(t *testing.T, open opener) {
	inner := open(t)
	n := start(t, both{repeating{inner}, inner})
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	n.mustRequest(addPath, attempt(1))
	n.expectTexts(t, 1)
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}
