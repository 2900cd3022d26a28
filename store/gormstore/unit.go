package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"gorm.io/gorm"
)

// pool is a database/sql pool, with what is prepared on it.
type pool struct {
	db        *sql.DB
	options   sql.TxOptions
	texts     *queryTexts
	uses      []query // what the pool's transactions run, to be prepared
	classify  func(error) conflict
	noPrepare bool
	sqlite    bool

	mu       sync.Mutex
	prepared *[queryCount]*sql.Stmt // nil until all are
	closed   bool
}

var errClosed = errors.New("gormstore: the store is closed")

// open returns an error once the pool is closed.
func (p *pool) open() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errClosed
	}
	return nil
}

// statements returns the prepared statements, and prepares them at the first
// call: outside any transaction, since a statement that is prepared inside one
// ends with it.
func (p *pool) statements(ctx context.Context) (*[queryCount]*sql.Stmt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if p.prepared != nil || p.noPrepare {
		return p.prepared, nil
	}
	var all [queryCount]*sql.Stmt
	for _, q := range p.uses {
		stmt, err := p.db.PrepareContext(ctx, p.texts[q]) //nolint:sqlclosecheck // close closes it
		if err != nil {
			return nil, errors.Join(fmt.Errorf("gormstore: prepare statements: %w", explained(err)), closeAll(&all))
		}
		all[q] = stmt
	}
	p.prepared = &all
	return p.prepared, nil
}

func (p *pool) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.prepared == nil {
		return nil
	}
	err := closeAll(p.prepared)
	p.prepared = nil
	return err
}

func closeAll(stmts *[queryCount]*sql.Stmt) error {
	var errs []error
	for _, stmt := range stmts {
		if stmt != nil {
			errs = append(errs, stmt.Close())
		}
	}
	return errors.Join(errs...)
}

// begin begins a transaction. When it cannot, again tells whether the same may
// work later.
func (p *pool) begin(ctx context.Context) (tx *sql.Tx, stmts *[queryCount]*sql.Stmt, again bool, err error) {
	if err := p.awaitConnection(ctx); err != nil {
		return nil, nil, false, err
	}
	stmts, err = p.statements(ctx)
	if err != nil {
		return nil, nil, p.mayBegin(err), err
	}
	tx, err = p.db.BeginTx(ctx, &p.options)
	if err != nil {
		return nil, nil, p.mayBegin(err), fmt.Errorf("gormstore: begin: %w", err)
	}
	return tx, stmts, false, nil
}

// mayBegin tells whether a transaction that could not begin may be able to later.
func (p *pool) mayBegin(err error) bool {
	c := p.classify(err)
	return c == conflictBusy || c == conflictLost
}

// run runs fn in one transaction, which is rolled back when fn returns an error
// or panics. It reports whether the same again may work: whether what failed is
// the database, and for a conflict or a lost connection. What fn's own errors
// say is no matter. After a COMMIT whose answer was lost, nobody knows whether
// fn is kept, and it is not run again.
func (p *pool) run(ctx context.Context, fn func(*unit) error) (again bool, err error) {
	tx, stmts, again, err := p.begin(ctx)
	if err != nil {
		return again, err
	}
	// After Commit this does nothing; otherwise the error that led here counts.
	defer func() { _ = tx.Rollback() }()

	u := &unit{ctx: ctx, pool: p, tx: tx, stmts: stmts}
	if err := u.do(fn); err != nil {
		return u.again, err
	}
	if err := tx.Commit(); err != nil {
		return p.classify(err) == conflictBusy, fmt.Errorf("gormstore: commit: %w", err)
	}
	return false, nil
}

// errNeedsTransaction ends a unit that was begun without a transaction.
var errNeedsTransaction = errors.New("gormstore: this unit needs a transaction")

// errChanged stands for a row that another unit has changed or deleted.
var errChanged = errors.New("another unit has changed the row")

// read runs fn, which only reads. One statement sees one state of the database
// by itself, so fn gets a transaction, and is run again in it, only if it comes
// to read for a second time: most never do, and BEGIN and COMMIT cost a
// database server a round trip each and SQLite as much as the statement.
func (p *pool) read(ctx context.Context, fn func(*unit) error) (again bool, err error) {
	if err := p.awaitConnection(ctx); err != nil {
		return false, err
	}
	stmts, err := p.statements(ctx)
	if err != nil {
		return p.mayBegin(err), err
	}
	u := &unit{ctx: ctx, pool: p, stmts: stmts}
	err = u.do(fn)
	if errors.Is(u.failed, errNeedsTransaction) {
		return p.run(ctx, fn)
	}
	return u.again, err
}

// light runs fn, which reads one row and puts one back, without a transaction:
// the row is not locked, and is changed on the condition that it is as it was.
// That is half of the round trips, and nobody waits for a lock. When fn does
// more than that it is run again in a transaction; when another unit was
// quicker, its caller should run it in one.
func (p *pool) light(ctx context.Context, fn func(*unit) error) (again bool, err error) {
	stmts, err := p.statements(ctx)
	if err != nil {
		return p.mayBegin(err), err
	}
	u := &unit{ctx: ctx, pool: p, stmts: stmts, light: true}
	err = u.do(fn)
	switch {
	case errors.Is(u.failed, errNeedsTransaction):
		return p.run(ctx, fn)
	case err != nil:
		return u.again, err
	case u.put == nil:
		return false, nil
	}
	if err := u.run(u.put.doing, u.put.query, u.put.args...); err != nil {
		// It commits at once: when the connection broke, nobody knows.
		return u.again && !u.lost, err
	}
	return false, nil
}

// statement is one that is put off.
type statement struct {
	doing string
	query query
	args  []any
}

// unit is what one unit of work does in a transaction, or without one.
type unit struct {
	ctx   context.Context // a unit lives as long as its transaction
	pool  *pool
	tx    *sql.Tx                // nil: there is none, see pool.read
	host  gorm.ConnPool          // a transaction of the host's in place of tx, see Store.UpdateTx
	stmts *[queryCount]*sql.Stmt // nil: send text

	guarded bool // it shares the transaction, and must be able to go back alone
	wrote   bool
	reads   int
	light   bool       // see pool.light
	put     *statement // what a light unit writes in the end

	failed error // the first statement that failed: some databases abort the transaction then
	again  bool  // whether it failed for a conflict or a lost connection
	lost   bool  // whether it was a lost connection
}

// do runs fn. A failed statement that fn disregards fails the unit all the
// same: all or nothing.
func (u *unit) do(fn func(*unit) error) error {
	if err := fn(u); err != nil {
		return err
	}
	if u.failed == nil && u.guarded && u.wrote {
		_ = u.run("release savepoint", releaseSavepoint)
	}
	return u.failed
}

// undo takes back what the unit wrote, and reports whether the transaction can
// go on without it. The savepoint stays, with nothing in it.
func (u *unit) undo() bool {
	switch {
	case u.failed != nil:
		return false
	case !u.wrote:
		return true
	case !u.guarded:
		return false
	}
	return u.run("roll back to savepoint", rollBackToSavepoint) == nil
}

// scanner is the current row of *sql.Rows.
type scanner interface {
	Scan(dest ...any) error
}

// exec runs a statement that writes.
func (u *unit) exec(doing string, q query, args ...any) error {
	if err := u.willWrite(); err != nil {
		return err
	}
	if u.light {
		u.put = &statement{doing, q, args}
		return nil
	}
	return u.run(doing, q, args...)
}

// willWrite sets a savepoint before the first write of a unit that shares its
// transaction.
func (u *unit) willWrite() error {
	switch {
	case u.failed != nil:
	case u.light && u.put != nil:
		u.failed = errNeedsTransaction
	case u.guarded && !u.wrote:
		_ = u.run("set savepoint", setSavepoint)
	}
	u.wrote = true
	return u.failed
}

func (u *unit) run(doing string, q query, args ...any) (err error) {
	if u.failed != nil {
		return u.failed
	}
	var result sql.Result
	if u.stmts == nil {
		result, err = u.source().ExecContext(u.ctx, u.pool.texts[q], args...)
	} else {
		result, err = u.statement(q).ExecContext(u.ctx, args...) //nolint:sqlclosecheck // see statement
	}
	if err != nil {
		return u.fail(doing, err)
	}
	conditional, otherwise := q.conditional()
	if !conditional {
		return nil
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return u.fail(doing, errors.Join(err, otherwise))
	}
	return nil
}

// statement is the prepared statement on the unit's connection.
func (u *unit) statement(q query) *sql.Stmt {
	if u.tx == nil {
		return u.stmts[q]
	}
	return u.tx.StmtContext(u.ctx, u.stmts[q])
}

// execText runs a statement that writes and is not worth preparing, and returns
// how many rows it changed.
func (u *unit) execText(doing string, s *gorm.Statement) (rows int, err error) {
	if err := u.willWrite(); err != nil {
		return 0, err
	}
	result, err := u.tx.ExecContext(u.ctx, s.SQL.String(), s.Vars...)
	if err != nil {
		return 0, u.fail(doing, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, u.fail(doing, err)
	}
	return int(n), nil
}

// each calls fn for each row. All rows are read: SQLite's checkpoints wait for
// a statement that was left half-way.
func (u *unit) each(doing string, fn func(scanner) error, q query, args ...any) error {
	if err := u.willRead(); err != nil {
		return err
	}
	if u.stmts == nil {
		rows, err := u.source().QueryContext(u.ctx, u.pool.texts[q], args...)
		return u.drain(doing, rows, err, fn)
	}
	rows, err := u.statement(q).QueryContext(u.ctx, args...) //nolint:sqlclosecheck // see statement
	return u.drain(doing, rows, err, fn)
}

func (u *unit) eachText(doing string, s *gorm.Statement, fn func(scanner) error) error {
	if err := u.willRead(); err != nil {
		return err
	}
	rows, err := u.source().QueryContext(u.ctx, s.SQL.String(), s.Vars...)
	return u.drain(doing, rows, err, fn)
}

// willRead fails the second read of a unit that has no transaction, and one of
// what it has put itself.
func (u *unit) willRead() error {
	u.reads++
	if u.tx == nil && u.host == nil && (u.reads > 1 || u.put != nil) {
		return u.refuse(errNeedsTransaction)
	}
	return u.failed
}

// needsTransaction fails a unit that does more than a light one can.
func (u *unit) needsTransaction() error {
	if u.light {
		return u.refuse(errNeedsTransaction)
	}
	return u.failed
}

// refuse fails the unit, if nothing has yet, for what cannot be done in it.
func (u *unit) refuse(err error) error {
	if u.failed == nil {
		u.failed = err
	}
	return u.failed
}

// source is where text is sent.
func (u *unit) source() interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
} {
	switch {
	case u.host != nil:
		return u.host
	case u.tx == nil:
		return u.pool.db
	default:
		return u.tx
	}
}

func (u *unit) drain(doing string, rows *sql.Rows, err error, fn func(scanner) error) error {
	if err != nil {
		return u.fail(doing, err)
	}
	for rows.Next() {
		if err = fn(rows); err != nil {
			break
		}
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil {
		return u.fail(doing, err)
	}
	return nil
}

// fail notes that the unit cannot go on. A driver's words for a duplicate are
// not passed on, since MySQL's tell the value, which may be a number.
func (u *unit) fail(doing string, err error) error {
	switch u.pool.classify(err) {
	case conflictDuplicate:
		u.again = true
		err = errTaken
	case conflictBusy:
		u.again = true
	case conflictLost:
		u.again, u.lost = true, true
	case conflictNone:
	}
	u.failed = fmt.Errorf("gormstore: %s: %w", doing, explained(err))
	return u.failed
}

// explained adds what an operator can do about a table that is not there.
func explained(err error) error {
	if missing(err) {
		return fmt.Errorf("the tables are not as Migrate leaves them; did it run, or did somebody drop one? %w", err)
	}
	return err
}
