package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"example.com/threepid"
	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// accountFailureTests are about an account's endpoints when the store or the host fails.
func accountFailureTests() []test {
	return []test{
		{"AccountStoreFails", testAccountStoreFails},
		{"AccountAddCutOffGoesOn", testAccountAddCutOffGoesOn},
		{"AccountWithOneNumber", testAccountWithOneNumber},
		{"AccountClosed", testAccountClosed},
	}
}

// failingAccounts fail while they are told to.
type failingAccounts struct {
	store.Accounts
	mu  sync.Mutex
	err error
}

func (f *failingAccounts) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failingAccounts) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *failingAccounts) Associate(ctx context.Context, a store.Association) error {
	if err := f.failure(); err != nil {
		return err
	}
	return f.Accounts.Associate(ctx, a)
}

func (f *failingAccounts) Dissociate(ctx context.Context, userID, number string) error {
	if err := f.failure(); err != nil {
		return err
	}
	return f.Accounts.Dissociate(ctx, userID, number)
}

func (f *failingAccounts) List(ctx context.Context, userID string) ([]store.Association, error) {
	if err := f.failure(); err != nil {
		return nil, err
	}
	return f.Accounts.List(ctx, userID)
}

func testAccountStoreFails(t *testing.T, open opener) {
	accounts := &failingAccounts{Accounts: open(t)}
	n := start(t, accounts.Accounts.(Store), authenticated, func(o *threepid.Options) { o.Accounts = accounts })
	sid := n.validatedBy(secret, addPath, 1)
	n.associate(t, alice, "447700900002")
	accounts.fail(errors.New("disk on fire at /var/lib/secret"))
	for _, a := range []answer{
		n.add(alice, sid, secret),
		n.authed(alice, http.MethodGet, listPath, ""),
		n.authed(alice, http.MethodPost, deletePath, `{"medium":"msisdn","address":"447700900002"}`),
	} {
		expect(t, a, http.StatusInternalServerError, "M_UNKNOWN")
		if strings.Contains(a.body, "disk") {
			t.Errorf("the response reveals the cause: %s", a.body)
		}
	}
	accounts.fail(nil)
	expect(t, n.add(bob, sid, secret), http.StatusBadRequest, "M_THREEPID_IN_USE") // with alice's new validation
	expectDone(t, n.add(alice, sid, secret), `{}`)
}

// testAccountAddCutOffGoesOn loses the store at each step of an add. The user who repeats the
// request gets the number, and nobody else does.
func testAccountAddCutOffGoesOn(t *testing.T, open opener) {
	for step := 1; step <= 2; step++ {
		for name, wrap := range map[string]func(store.Store, func(string) error) store.Store{
			"before": storetest.Failing, "after": storetest.FailingAfter,
		} {
			t.Run(fmt.Sprintf("%s write %d", name, step), func(t *testing.T) {
				t.Parallel()
				inner := open(t)
				var mu sync.Mutex
				left := -1 // writes that succeed; -1 means all
				n := start(t, both{wrap(inner, func(op string) error {
					mu.Lock()
					defer mu.Unlock()
					if op != storetest.OpUpdate || left < 0 {
						return nil
					}
					left--
					if left < 0 {
						return errors.New("cut off")
					}
					return nil
				}), inner}, authenticated)
				sid := n.validatedBy(secret, addPath, 1)
				mu.Lock()
				left = step - 1
				mu.Unlock()
				expect(t, n.add(alice, sid, secret), http.StatusInternalServerError, "M_UNKNOWN")
				if name == "after" || step > 1 {
					expect(t, n.add(bob, sid, secret), http.StatusBadRequest, "M_THREEPID_IN_USE")
				}
				expectDone(t, n.add(alice, sid, secret), `{}`)
				expectDone(t, n.add(alice, sid, secret), `{}`)
				expect(t, n.add(bob, sid, secret), http.StatusBadRequest, "M_THREEPID_IN_USE")
			})
		}
	}
}

// testAccountWithOneNumber makes a host refuse a second number. The validation can be used in
// another request when the first number is gone.
func testAccountWithOneNumber(t *testing.T, open opener) {
	accounts := &failingAccounts{Accounts: open(t)}
	n := start(t, accounts.Accounts.(Store), authenticated, legacy, func(o *threepid.Options) { o.Accounts = accounts })
	sid := n.validatedBy(secret, addPath, 1)
	accounts.fail(fmt.Errorf("host: %w", store.ErrOneNumber))
	expect(t, n.legacyAdd(alice, sid, secret), http.StatusForbidden, "M_THREEPID_DENIED")
	expect(t, n.add(alice, sid, secret), http.StatusForbidden, "M_THREEPID_DENIED")
	accounts.fail(nil)
	expectDone(t, n.add(alice, sid, secret), `{}`)
}

func testAccountClosed(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, n.add(alice, "sid", secret), http.StatusServiceUnavailable, "M_UNKNOWN")
	expect(t, n.authed(alice, http.MethodGet, listPath, ""), http.StatusServiceUnavailable, "M_UNKNOWN")
	expect(t, n.authed(alice, http.MethodPost, deletePath, deleteOurs), http.StatusServiceUnavailable, "M_UNKNOWN")
	if err := n.plugin.ReleaseNumber(t.Context(), "+"+msisdn); !errors.Is(err, threepid.ErrClosed) {
		t.Errorf("Release: %v", err)
	}
}
