package db_test

import (
	"testing"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
	"example.com/threepid/store/storetest"
)

func TestCounters(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		storetest.RunCounters(t, func(tb testing.TB) store.Counters {
			tb.Helper()
			return migrated(tb, newStore(tb, connect(tb, s.dialector(s.newDatabase(tb)), connections/3), gormstore.Options{}))
		})
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		storetest.RunHistory(t, func(tb testing.TB) storetest.HistoryStore {
			tb.Helper()
			return migrated(tb, newStore(tb, connect(tb, s.dialector(s.newDatabase(tb)), connections/3), gormstore.Options{}))
		})
	})
}
