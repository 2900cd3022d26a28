package gormstore_test

import (
	"context"
	"errors"
	"fmt"
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

// A unit that fails takes back what it put, and nothing of the host's.
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

// A call that waits for its own caller ends soon, and says what to do.
func TestCallsInsideAHostsTransaction(t *testing.T) {
	t.Parallel()
	for name, connections := range map[string]int{"one connection": 1, "many connections": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const soon = 4 * time.Second
			db := openHost(t, nil)
			pool, err := db.DB()
			if err != nil {
				t.Fatal(err)
			}
			pool.SetMaxOpenConns(connections)
			s := newStore(t, db, gormstore.Options{})
			calls := map[string]func() error{"Update": func() error { return put(t.Context(), s, session(1)) }}
			if connections == 1 {
				calls["View"] = func() error { return expectSID(t.Context(), s, session(1).SID) }
			}
			for call, run := range calls {
				begun := time.Now()
				err := db.Transaction(func(tx *gorm.DB) error {
					if err := tx.Exec("CREATE TABLE hosts (name TEXT)").Error; err != nil {
						t.Fatal(err)
					}
					return run()
				})
				if err == nil || !strings.Contains(err.Error(), "RedeemTx") {
					t.Errorf("%s: got %v", call, err)
				}
				if took := time.Since(begun); took > soon {
					t.Errorf("%s took %v", call, took)
				}
			}
			// In a transaction of another database, nothing is in the way.
			err = openHost(t, nil).Transaction(func(*gorm.DB) error { return put(t.Context(), s, session(1)) })
			if err != nil {
				t.Errorf("inside another database's transaction: %v", err)
			}
		})
	}
}

// updateLocked calls Update while a transaction that was begun by hand holds the write lock, on
// another connection that waits that long for it.
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
	done := make(chan error, 3)
	go func() { done <- put(t.Context(), s, session(1)) }()
	go func() { done <- expectSID(t.Context(), s, session(1).SID) }()
	go func() { done <- updateLocked(t, 500*time.Millisecond) }()
	for range cap(done) {
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "RedeemTx") {
				t.Errorf("got %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a call waits for ever")
		}
	}
}
