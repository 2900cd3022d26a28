package gormstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"example.com/threepid/store"
)

// UpdateTx is [Store.Update] in a transaction of the host. The changes become durable when the host
// commits. host is the *gorm.DB that db.Transaction passes to its function, or that db.Begin
// returns.
//
// The unit does not share a batch. If it fails or panics, the transaction contains nothing of it,
// and keeps the host's own changes. An error of the database, such as a deadlock, may end the
// host's transaction: roll it back and run it again.
//
// Until the transaction ends, only units that name the same rows wait. On SQLite all other writers
// wait.
func (s *Store) UpdateTx(ctx context.Context, host *gorm.DB, names store.Names, change func(*store.Rows) error) error {
	conn, err := s.transactionOf(host)
	if err != nil {
		return err
	}
	d, err := s.findDialect(ctx)
	if err := errors.Join(err, ctx.Err(), s.writer.open()); err != nil {
		return err
	}
	ctx = s.within(ctx)
	if d.begin != "" {
		if _, err := conn.ExecContext(ctx, d.begin); err != nil {
			return s.fail("take the write lock", err, true)
		}
	}
	return store.Follow(names, func(names store.Names) error {
		read := d.read
		for try := 1; ; try++ {
			err := s.updateTx(ctx, d, conn, read, names, change)
			read = cmp.Or(d.readLatest, d.read)
			if !errors.Is(err, errLost) || try == sharedTries {
				return err
			}
		}
	})
}

func (s *Store) updateTx(ctx context.Context, d *dialect, q querier, read string, names store.Names, change func(*store.Rows) error) error {
	p := newPage()
	p.want(names)
	if err := s.fail("read rows", p.load(ctx, q, read), false); err != nil {
		return err
	}
	rows, _ := p.rows(names)
	after, changed, err := store.Apply(names, rows, change)
	if err != nil || !changed {
		return err
	}
	p.put(names, after)
	if _, err := q.ExecContext(ctx, "SAVEPOINT threepid_unit"); err != nil {
		return s.fail("set savepoint", err, true)
	}
	if err := s.store(ctx, d, q, p, true); err != nil {
		// Return the error that led here. The database may have ended the transaction already.
		_, _ = q.ExecContext(ctx, "ROLLBACK TO SAVEPOINT threepid_unit")
		return err
	}
	_, err = q.ExecContext(ctx, "RELEASE SAVEPOINT threepid_unit")
	return s.fail("release savepoint", err, true)
}

// transactionOf returns the connection of the host's transaction.
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
		return nil, errors.New("gormstore: the *gorm.DB is no transaction; pass the one that db.Transaction passes to its function")
	}
	return conn, nil
}
