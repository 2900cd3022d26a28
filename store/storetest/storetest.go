// Package storetest contains the checks that every [store.Store] and [store.Accounts] must pass,
// and small wrappers: one makes a store fail, to test the code that uses it, and one combines
// several stores into several nodes.
//
// A new store is tested in a few lines:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(tb testing.TB) store.Store { return newStore(tb) })
//	}
package storetest

import (
	"context"
	"testing"
	"time"

	"example.com/threepid/store"
)

// Check is one requirement of a [store.Store].
type Check struct {
	// Name says it, as the name of a subtest.
	Name string

	// Run returns an error that says what the store did wrong. open returns a
	// new, empty store; Run does not close it.
	Run func(ctx context.Context, open func() (store.Store, error)) error
}

// Checks returns all checks of a [store.Store].
func Checks() []Check {
	var checks []Check
	for _, group := range [][]storeCheck{sessionChecks(), recordChecks(), unitChecks(), expiryChecks(), concurrencyChecks()} {
		for _, c := range group {
			checks = append(checks, Check{Name: c.name, Run: func(ctx context.Context, open func() (store.Store, error)) error {
				s, err := open()
				if err != nil {
					return err
				}
				return c.run(ctx, s)
			}})
		}
	}
	return checks
}

// storeCheck is a Check that opens one store.
type storeCheck struct {
	name string
	run  func(context.Context, store.Store) error
}

// checkTimeout is much longer than any check takes, and shorter than the limit of go test, so that
// the check of a store that hangs is named.
const checkTimeout = 2 * time.Minute

// Run runs all Checks as parallel subtests of t. open returns a new, empty store, and closes it in
// a Cleanup if necessary.
func Run(t *testing.T, open func(testing.TB) store.Store) {
	t.Helper()
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), checkTimeout)
			defer cancel()
			if err := c.Run(ctx, func() (store.Store, error) { return open(t), nil }); err != nil {
				t.Error(err)
			}
		})
	}
}

// AccountsCheck is one requirement of a [store.Accounts].
type AccountsCheck struct {
	// Name says it, as the name of a subtest.
	Name string

	// Run returns an error that says what the implementation did wrong. open
	// returns a new, empty one; Run does not close it.
	Run func(ctx context.Context, open func() (store.Accounts, error)) error
}

// AccountsChecks returns all checks of a [store.Accounts] that o describes.
func AccountsChecks(o AccountsOptions) []AccountsCheck {
	var checks []AccountsCheck
	for _, c := range accountsChecks(o) {
		checks = append(checks, AccountsCheck{Name: c.name, Run: func(ctx context.Context, open func() (store.Accounts, error)) error {
			a, err := open()
			if err != nil {
				return err
			}
			return c.run(ctx, accounts{Accounts: a, options: o})
		}})
	}
	return checks
}

// accountsCheck is an AccountsCheck that opens one implementation.
type accountsCheck struct {
	name string
	run  func(context.Context, accounts) error
}

// RunAccounts runs all AccountsChecks as parallel subtests of t. open returns a new, empty
// implementation, and closes it in a Cleanup if necessary. o describes it.
func RunAccounts(t *testing.T, open func(testing.TB) store.Accounts, o AccountsOptions) {
	t.Helper()
	for _, c := range AccountsChecks(o) {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), checkTimeout)
			defer cancel()
			if err := c.Run(ctx, func() (store.Accounts, error) { return open(t), nil }); err != nil {
				t.Error(err)
			}
		})
	}
}
