package memstore_test

import (
	"testing"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) store.Store { return memstore.New() })
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	storetest.RunAccounts(t, func(testing.TB) store.Accounts { return memstore.New() }, storetest.AccountsOptions{})
}

func TestCounters(t *testing.T) {
	t.Parallel()
	storetest.RunCounters(t, func(testing.TB) store.Counters { return memstore.New() })
}

func TestHistory(t *testing.T) {
	t.Parallel()
	storetest.RunHistory(t, func(testing.TB) storetest.HistoryStore { return memstore.New() })
}
