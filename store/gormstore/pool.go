package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
)

// querier runs statements: on a pool, in a transaction, or in a host's transaction.
type querier interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
}

// pool is a database/sql pool and its prepared statements.
type pool struct {
	sqlite    bool
	db        *sql.DB
	options   sql.TxOptions
	noPrepare bool

	mu       sync.Mutex
	prepared map[string]*sql.Stmt // by text; nil until all are
	closed   bool
}

var errClosed = errors.New("gormstore: the store is closed")

// prepare prepares the texts at the first call. It must not run in a transaction, because a
// statement that is prepared in one ends with it.
func (p *pool) prepare(ctx context.Context, texts func() []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	if p.prepared != nil || p.noPrepare {
		return nil
	}
	all := make(map[string]*sql.Stmt)
	for _, text := range texts() {
		stmt, err := p.db.PrepareContext(ctx, text) //nolint:sqlclosecheck // close closes it
		if err != nil {
			return errors.Join(fmt.Errorf("gormstore: prepare statements: %w", explained(err)), closeAll(all))
		}
		all[text] = stmt
	}
	p.prepared = all
	return nil
}

// open returns an error once the pool is closed.
func (p *pool) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	return nil
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	err := closeAll(p.prepared)
	p.prepared = nil
	return err
}

func closeAll(stmts map[string]*sql.Stmt) error {
	var errs []error
	for _, stmt := range stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(errs...)
}

// in returns a querier for a transaction. With nil, each statement is a transaction of its own.
func (p *pool) in(tx *sql.Tx) querier {
	p.mu.Lock()
	defer p.mu.Unlock()
	return statements{db: p.db, tx: tx, prepared: p.prepared}
}

// statements runs prepared statements if there are any, and other statements as text.
type statements struct {
	db       *sql.DB
	tx       *sql.Tx
	prepared map[string]*sql.Stmt
}

func (s statements) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	stmt := s.prepared[text]
	switch {
	case stmt == nil && s.tx == nil:
		return s.db.QueryContext(ctx, text, args...)
	case stmt == nil:
		return s.tx.QueryContext(ctx, text, args...)
	case s.tx != nil:
		stmt = s.tx.StmtContext(ctx, stmt) //nolint:sqlclosecheck // it is closed with its transaction
	}
	return stmt.QueryContext(ctx, args...)
}

func (s statements) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	stmt := s.prepared[text]
	switch {
	case stmt == nil && s.tx == nil:
		return s.db.ExecContext(ctx, text, args...)
	case stmt == nil:
		return s.tx.ExecContext(ctx, text, args...)
	case s.tx != nil:
		stmt = s.tx.StmtContext(ctx, stmt) //nolint:sqlclosecheck // it is closed with its transaction
	}
	return stmt.ExecContext(ctx, args...)
}

// each calls scan for each row of a result. It closes the rows even after an error: an open
// statement delays SQLite's checkpoints.
func each(ctx context.Context, q querier, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err = scan(rows); err != nil {
			break
		}
	}
	return errors.Join(err, rows.Err(), rows.Close()) //nolint:sqlclosecheck // the error of Close counts
}
