package gormstore_test

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
	"example.com/threepid/store/sqlite"
	"example.com/threepid/store/storetest"
)

func TestStoreOverHostsDatabase(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		return newStore(tb, openHost(tb, nil), gormstore.Options{})
	})
}

func TestAccountsOverHostsDatabase(t *testing.T) {
	t.Parallel()
	storetest.RunAccounts(t, func(tb testing.TB) store.Accounts {
		tb.Helper()
		return newStore(tb, openHost(tb, nil), gormstore.Options{})
	}, storetest.AccountsOptions{})
}

func TestStoreWithoutPreparedStatements(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		return newStore(tb, openHost(tb, nil), gormstore.Options{NoPrepare: true})
	})
}

// The store must not wait for itself if the host has only one connection.
func TestStoreOverOneConnection(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		db := openHost(tb, nil)
		pool, err := db.DB()
		if err != nil {
			tb.Fatal(err)
		}
		pool.SetMaxOpenConns(1)
		return newStore(tb, db, gormstore.Options{})
	})
}

func openTwice(tb testing.TB) storetest.Node {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "shared.db")
	open := func() *sqlite.Store {
		s, err := sqlite.Open(path)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := s.Close(); err != nil {
				tb.Error(err)
			}
		})
		return s
	}
	return storetest.Nodes(open(), open())
}

func TestStoreOverTwoProcesses(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		return openTwice(tb)
	})
}

func TestAccountsOverTwoProcesses(t *testing.T) {
	t.Parallel()
	storetest.RunAccounts(t, func(tb testing.TB) store.Accounts {
		tb.Helper()
		return openTwice(tb)
	}, storetest.AccountsOptions{})
}

// Two hosts, each with its own pool and batches, share one file with deferred transactions: only
// SQLite's locks and the retries keep order.
func TestStoreOverTwoHosts(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		return openTwoHosts(tb)
	})
}

func openTwoHosts(tb testing.TB) storetest.Node {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "shared.db")
	return storetest.Nodes(
		newStore(tb, openHostAt(tb, path, nil), gormstore.Options{}),
		newStore(tb, openHostAt(tb, path, nil), gormstore.Options{}),
	)
}

// A unit that must wait does so before it reads, so that it need not run again.
func TestDeferredTransactionsAreNotRetried(t *testing.T) {
	t.Parallel()
	const callers, each = 4, 10
	s := openTwoHosts(t)
	if err := put(t.Context(), s, session(1)); err != nil {
		t.Fatal(err)
	}
	var runs atomic.Int64
	var wg sync.WaitGroup
	for range callers * each {
		wg.Go(func() {
			err := s.Update(t.Context(), store.Names{Session: store.SessionRef{Key: session(1).Key}}, func(rows *store.Rows) error {
				runs.Add(1)
				time.Sleep(time.Millisecond) // so that other units run in between
				rows.Session.Attempt++
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := runs.Load(); n != callers*each {
		t.Errorf("%d units ran %d times", callers*each, n)
	}
}

func TestCountersOverHostsDatabase(t *testing.T) {
	t.Parallel()
	storetest.RunCounters(t, func(tb testing.TB) store.Counters {
		tb.Helper()
		return newStore(tb, openHost(tb, nil), gormstore.Options{})
	})
}

func TestHistoryOverHostsDatabase(t *testing.T) {
	t.Parallel()
	storetest.RunHistory(t, func(tb testing.TB) storetest.HistoryStore {
		tb.Helper()
		return newStore(tb, openHost(tb, nil), gormstore.Options{})
	})
}
