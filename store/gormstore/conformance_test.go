package gormstore_test

import (
	"context"
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
	})
}

func TestStoreWithoutPreparedStatements(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		return newStore(tb, openHost(tb, nil), gormstore.Options{NoPrepare: true})
	})
}

// A host with one connection must not be made to wait for itself.
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

// processes is one database as two processes have it: calls go to one and the
// other in turn.
type processes struct {
	first, second interface {
		store.Store
		store.Accounts
	}
	calls atomic.Int64
}

func (p *processes) next() interface {
	store.Store
	store.Accounts
} {
	if p.calls.Add(1)%2 == 0 {
		return p.first
	}
	return p.second
}

func (p *processes) View(ctx context.Context, fn func(store.Tx) error) error {
	return p.next().View(ctx, fn)
}

func (p *processes) Update(ctx context.Context, fn func(store.Tx) error) error {
	return p.next().Update(ctx, fn)
}

func (p *processes) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	return p.next().DeleteExpired(ctx, now, limit)
}

func (p *processes) Owner(ctx context.Context, msisdn string) (string, error) {
	return p.next().Owner(ctx, msisdn)
}

func (p *processes) Associate(ctx context.Context, a store.Association) error {
	return p.next().Associate(ctx, a)
}

func (p *processes) Dissociate(ctx context.Context, userID, msisdn string) error {
	return p.next().Dissociate(ctx, userID, msisdn)
}

func (p *processes) List(ctx context.Context, userID string) ([]store.Association, error) {
	return p.next().List(ctx, userID)
}

func openTwice(tb testing.TB) *processes {
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
	return &processes{first: open(), second: open()}
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
	})
}

// Two hosts with pools and write queues of their own over one file with deferred
// transactions: here nothing but SQLite's locks and the retries keep order.
func TestStoreOverTwoHosts(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		return openTwoHosts(tb)
	})
}

func openTwoHosts(tb testing.TB) *processes {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "shared.db")
	return &processes{
		first:  newStore(tb, openHostAt(tb, path, nil), gormstore.Options{}),
		second: newStore(tb, openHostAt(tb, path, nil), gormstore.Options{}),
	}
}

// A unit that has to wait waits before it reads, so that it need not run again.
func TestDeferredTransactionsDoNotRunInVain(t *testing.T) {
	t.Parallel()
	const callers, each = 4, 10
	s := openTwoHosts(t)
	if err := s.Update(t.Context(), put(session(1))); err != nil {
		t.Fatal(err)
	}
	var runs atomic.Int64
	var wg sync.WaitGroup
	for range callers * each {
		wg.Go(func() {
			err := s.Update(t.Context(), func(tx store.Tx) error {
				runs.Add(1)
				one, err := tx.SessionByKey(session(1).Key)
				if err != nil {
					return err
				}
				time.Sleep(time.Millisecond) // so that the others come to it
				one.Attempt++
				return tx.PutSession(one)
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
