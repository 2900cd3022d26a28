package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"example.com/threepid/internal/plugintest"
	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

func TestRedeemTx(t *testing.T) {
	t.Parallel()
	plugintest.RunRedeemTx(t, func(tb testing.TB) (*gorm.DB, plugintest.Store) {
		tb.Helper()
		db := openHost(tb, nil)
		return db, newStore(tb, db, gormstore.Options{})
	})
}

// A unit that fails is undone; the host's own changes are not.
func TestUpdateTxIsAllOrNothing(t *testing.T) {
	t.Parallel()
	own := errors.New("the unit's own error")
	for name, fail := range map[string]func(*store.Rows) error{
		"error": func(*store.Rows) error { return own },
		"panic": func(*store.Rows) error { panic(own) },
		"failed statement": func(rows *store.Rows) error {
			rows.Session.SID = session(2).SID
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := openHost(t, nil)
			s := newStore(t, db, gormstore.Options{})
			if err := put(t.Context(), s, session(2)); err != nil {
				t.Fatal(err)
			}
			names, change := fill(session(1))
			err := db.Transaction(func(tx *gorm.DB) error {
				if err := tx.Exec("CREATE TABLE hosts (name TEXT)").Error; err != nil {
					return err
				}
				defer func() { _ = recover() }()
				err := s.UpdateTx(t.Context(), tx, names, func(rows *store.Rows) error {
					return errors.Join(change(rows), fail(rows))
				})
				if err == nil {
					t.Error("UpdateTx returned nil")
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := expectSID(t.Context(), s, session(1).SID); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("the unit's session: %v", err)
			}
			if !db.Migrator().HasTable("hosts") {
				t.Error("the host's table was rolled back")
			}
		})
	}
}

// writes returns calls of the store that need SQLite's write lock.
func writes(t *testing.T, s *gormstore.Store) map[string]func() error {
	t.Helper()
	ctx := t.Context()
	return map[string]func() error{
		"Update": func() error { return put(ctx, s, session(1)) },
		"Associate": func() error {
			return s.Associate(ctx, store.Association{MSISDN: "447700900123", UserID: "@u:example.com"})
		},
		"PutCounts":           func() error { return s.PutCounts(ctx, []store.Count{{Subject: "s", Node: "n"}}) },
		"PutVerdicts":         func() error { return s.PutVerdicts(ctx, []store.Verdict{{Subject: "s", Version: 1}}) },
		"DeleteExpiredCounts": func() error { return s.DeleteExpiredCounts(ctx, time.UnixMilli(1)) },
		"PutTotals":           func() error { return s.PutTotals(ctx, []store.Total{{Name: "t", Node: "n"}}) },
		"AddEntries":          func() error { return s.AddEntries(ctx, []store.Entry{{ID: "e"}}) },
		"DeleteEntries":       func() error { return s.DeleteEntries(ctx, store.Key{}) },
	}
}

// reads returns calls of the store that need only a connection.
func reads(t *testing.T, s *gormstore.Store) map[string]func() error {
	t.Helper()
	ctx := t.Context()
	return map[string]func() error{
		"View":      func() error { return expectSID(ctx, s, session(1).SID) },
		"Owner":     func() error { _, err := s.Owner(ctx, "447700900123"); return err },
		"SumCounts": func() error { _, err := s.SumCounts(ctx, []string{"s"}, 0, ""); return err },
		"Verdicts":  func() error { _, err := s.Verdicts(ctx, 0); return err },
		"Totals":    func() error { _, err := s.Totals(ctx, 0, 1); return err },
		"Entries":   func() error { _, err := s.Entries(ctx, store.Key{}, 0, 1); return err },
	}
}

// A call that waits for its own caller fails soon, with an error that says what to do.
func TestCallsInsideAHostsTransaction(t *testing.T) {
	t.Parallel()
	open := func(t *testing.T, connections int) (*gorm.DB, *gormstore.Store) {
		t.Helper()
		db := openHost(t, nil)
		pool, err := db.DB()
		if err != nil {
			t.Fatal(err)
		}
		pool.SetMaxOpenConns(connections)
		return db, newStore(t, db, gormstore.Options{})
	}
	for name, connections := range map[string]int{"one connection": 1, "many connections": 0} {
		_, s := open(t, connections)
		calls := writes(t, s)
		if connections == 1 {
			maps.Copy(calls, reads(t, s))
		}
		for call := range calls {
			t.Run(name+", "+call, func(t *testing.T) {
				t.Parallel()
				const soon = 4 * time.Second
				db, s := open(t, connections)
				calls := writes(t, s)
				maps.Copy(calls, reads(t, s))
				begun := time.Now()
				err := db.Transaction(func(tx *gorm.DB) error {
					if err := tx.Exec("CREATE TABLE hosts (name TEXT)").Error; err != nil {
						t.Fatal(err)
					}
					return calls[call]()
				})
				if err == nil || !strings.Contains(err.Error(), "RedeemTx") {
					t.Errorf("got %v", err)
				}
				if took := time.Since(begun); took > soon {
					t.Errorf("it took %v", took)
				}
				// In a transaction of another database, the call succeeds.
				err = openHost(t, nil).Transaction(func(*gorm.DB) error { return put(t.Context(), s, session(1)) })
				if err != nil {
					t.Errorf("inside another database's transaction: %v", err)
				}
			})
		}
	}
}

// updateLocked calls Update on another connection while a transaction that was begun by hand holds
// the write lock. The call waits as long as given.
func updateLocked(t *testing.T, wait time.Duration) error {
	t.Helper()
	db := openHost(t, nil)
	pool, err := db.DB()
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(2)
	s := newStore(t, db, gormstore.Options{})
	tx := db.Begin()
	defer tx.Rollback()
	if err := errors.Join(
		tx.Exec("CREATE TABLE hosts (name TEXT)").Error,
		db.Exec(fmt.Sprintf("PRAGMA busy_timeout = %d", wait.Milliseconds())).Error,
	); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	return put(ctx, s, session(1))
}

// A transaction that the host began itself is not detected, but no call waits indefinitely.
func TestCallsInsideATransactionThatIsNotSeen(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes 10 seconds")
	}
	db := openHost(t, nil)
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1)
	s := newStore(t, db, gormstore.Options{})
	tx := db.Begin()
	defer tx.Rollback()
	calls := writes(t, s)
	maps.Copy(calls, reads(t, s))
	calls["Update on another connection"] = func() error { return updateLocked(t, 500*time.Millisecond) }
	done := make(chan error, len(calls))
	for name, call := range calls {
		go func() {
			err := call()
			if err == nil || !strings.Contains(err.Error(), "RedeemTx") {
				err = fmt.Errorf("%s: got %w", name, err)
			} else {
				err = nil
			}
			done <- err
		}()
	}
	for range cap(done) {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a call waits forever")
		}
	}
}
