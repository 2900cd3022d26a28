package gormstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"example.com/threepid/store"
)

// UpdateTx is [Store.Update] in a transaction of the host's: what fn puts becomes
// durable when the host commits. host is what db.Transaction hands to its function,
// or what db.Begin returns.
//
// fn runs once, and shares the transaction with no other unit. When it returns an
// error or panics, what it put is rolled back, and the host's own changes are not.
// An error of the database, such as a deadlock, may end the host's transaction: roll
// it back and run it again.
//
// Until the transaction ends, other units that need the same rows wait. On SQLite
// all other writers wait.
func (s *Store) UpdateTx(ctx context.Context, host *gorm.DB, fn func(store.Tx) error) error {
	conn, err := s.transactionOf(host)
	if err != nil {
		return err
	}
	if err := errors.Join(ctx.Err(), s.writer.open()); err != nil {
		return err
	}
	u := &unit{ctx: s.within(ctx), pool: s.writer, host: conn, guarded: true}
	kept := false
	defer func() {
		if !kept && u.wrote {
			// What led here counts, and the database may have ended the transaction.
			_, _ = conn.ExecContext(u.ctx, s.writer.texts[rollBackToSavepoint])
			_, _ = conn.ExecContext(u.ctx, s.writer.texts[releaseSavepoint])
		}
	}()
	if s.sqlite { // as batch.begin does
		if err := u.run("take the write lock", takeLock); err != nil {
			return err
		}
	}
	err = u.do(func(u *unit) error {
		return fn(&tx{unit: u, byKey: lockByKey, bySID: lockBySID, inHostTx: true})
	})
	kept = err == nil
	return err
}

// transactionOf returns what runs statements in the host's transaction.
func (s *Store) transactionOf(host *gorm.DB) (gorm.ConnPool, error) {
	switch {
	case host == nil:
		return nil, errors.New("gormstore: the *gorm.DB of the transaction is nil")
	case host.Error != nil:
		return nil, fmt.Errorf("gormstore: the transaction has failed already: %w", host.Error)
	case host.Name() != s.db.Name():
		return nil, fmt.Errorf("gormstore: the transaction is in another database: its dialect is %q, and the store's %q", host.Name(), s.db.Name())
	}
	conn := host.Statement.ConnPool
	if _, ok := conn.(gorm.TxCommitter); !ok {
		return nil, errors.New("gormstore: the *gorm.DB is no transaction; pass the one that db.Transaction hands to its function")
	}
	return conn, nil
}

// findBeforeLocking returns store.ErrNotFound unless the session is there, before a
// host's transaction locks it: under MySQL's default isolation, which is the host's to choose, to
// lock an absent row locks the gap where it would be, and with that other rows.
func (t *tx) findBeforeLocking(lock query, arg any, right func(*store.Session) bool) error {
	find := findByKey
	if lock == lockBySID {
		find = findBySID
	}
	found := false
	err := t.unit.each("read session", func(row scanner) error {
		s, _, err := scanSession(row)
		found = right(&s)
		return err
	}, find, arg)
	if err == nil && !found {
		err = store.ErrNotFound
	}
	return err
}

// createBuckets creates those that are absent, for the same reason, and so that
// two that create one wait for each other instead of failing.
func (t *tx) createBuckets(keys []store.Key) error {
	sorted := slices.SortedFunc(slices.Values(keys), func(a, b store.Key) int { return bytes.Compare(a[:], b[:]) })
	for _, key := range sorted {
		if err := t.unit.exec("create bucket", createBucket, key[:], "", 0); err != nil {
			return err
		}
	}
	return nil
}
