// Package plugintest runs the whole plugin, from its HTTP endpoints down to the
// rows, over a store: what clients, hosts and providers see of it must be the
// same on every one.
package plugintest

import (
	"slices"
	"testing"

	"github.com/gin-gonic/gin"

	"example.com/threepid/store"
)

// Store is what the module's own stores are.
type Store interface {
	store.Store
	store.Accounts
}

// opener returns a new, empty store that lives as long as the test.
type opener = func(testing.TB) Store

// test is one thing that the plugin must do.
type test struct {
	name string
	run  func(t *testing.T, open opener)
}

// Run runs all tests as parallel subtests of t. open returns a new, empty
// store, and closes it in a Cleanup if need be.
func Run(t *testing.T, open func(testing.TB) Store) {
	t.Helper()
	gin.SetMode(gin.TestMode)
	for _, test := range slices.Concat(
		accountTests(), accountHostTests(), accountFailureTests(), accountLegacyTests(),
		approveTests(), attemptTests(), callTests(), concealTests(), concurrencyTests(), delegateTests(), endpointTests(), failureTests(), guardTests(), hostTests(), httpTests(),
		limitTests(), lookUpTests(), policyTests(), recycledTests(), renewTests(), requestTokenTests(), serverKeyTests(), submitTokenTests(), testNumberTests(), textTests(), tryTests(), unblockTests(), warningTests(),
	) {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, open)
		})
	}
}
