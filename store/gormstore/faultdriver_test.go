package gormstore_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store/gormstore"
)

// faults counts the statements that reach a driver, and makes them fail.
type faults struct {
	mu     sync.Mutex
	counts map[string]int
	before func(statement string) error
}

// beforeEach calls fn before each statement, with COMMIT, BEGIN, ROLLBACK or the first words of its
// text. If fn returns an error, the driver returns it without running the statement; a COMMIT
// becomes a ROLLBACK.
func (f *faults) beforeEach(fn func(statement string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = fn
}

func (f *faults) count(statement string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for text, count := range f.counts {
		if strings.HasPrefix(text, statement) {
			n += count
		}
	}
	return n
}

func (f *faults) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts = map[string]int{}
}

func (f *faults) meet(statement string) error {
	f.mu.Lock()
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	f.counts[statement]++
	before := f.before
	f.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(statement)
}

// openFaulty returns a store over a host's SQLite database with a driver that the test controls.
func openFaulty(tb testing.TB) (*gormstore.Store, *faults) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "faulty.db")
	plain, err := sql.Open("sqlite3", "file:"+path+"?_txlock=deferred")
	if err != nil {
		tb.Fatal(err)
	}
	f := &faults{}
	pool := sql.OpenDB(connector{driver: plain.Driver(), dsn: "file:" + path + "?_txlock=deferred", faults: f})
	_ = plain.Close()
	tb.Cleanup(func() {
		if err := pool.Close(); err != nil {
			tb.Error(err)
		}
	})
	db, err := gorm.Open(overPool(pool), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		tb.Fatal(err)
	}
	if err := db.Exec("PRAGMA journal_mode = wal").Error; err != nil {
		tb.Fatal(err)
	}
	s := newStore(tb, db, gormstore.Options{})
	gormstore.SetStallTimeout(s, time.Minute)                // because tests delay batches
	if err := put(tb.Context(), s, session(0)); err != nil { // so that statements are prepared
		tb.Fatal(err)
	}
	f.reset()
	return s, f
}

// The types below wrap a driver for database/sql.
type connector struct {
	driver driver.Driver
	dsn    string
	faults *faults
}

func (c connector) Driver() driver.Driver { return c.driver }

func (c connector) Connect(context.Context) (driver.Conn, error) {
	inner, err := c.driver.Open(c.dsn)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: inner, faults: c.faults}, nil
}

type conn struct {
	driver.Conn
	faults *faults
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.faults.meet("BEGIN"); err != nil {
		return nil, err
	}
	begin, ok := c.Conn.(driver.ConnBeginTx)
	if !ok {
		return nil, fmt.Errorf("%T does not begin transactions", c.Conn)
	}
	inner, err := begin.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return faultyTx{Tx: inner, faults: c.faults}, nil
}

func (c *conn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	prepare, ok := c.Conn.(driver.ConnPrepareContext)
	if !ok {
		return nil, fmt.Errorf("%T does not prepare", c.Conn)
	}
	inner, err := prepare.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return &faultyStmt{Stmt: inner, text: text, faults: c.faults}, nil
}

type faultyTx struct {
	driver.Tx
	faults *faults
}

func (t faultyTx) Commit() error {
	if err := t.faults.meet("COMMIT"); err != nil {
		_ = t.Tx.Rollback()
		return err
	}
	return t.Tx.Commit()
}

func (t faultyTx) Rollback() error {
	_ = t.faults.meet("ROLLBACK")
	return t.Tx.Rollback()
}

type faultyStmt struct {
	driver.Stmt
	text   string
	faults *faults
}

func (s *faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.faults.meet(s.text); err != nil {
		return nil, err
	}
	exec, ok := s.Stmt.(driver.StmtExecContext)
	if !ok {
		return nil, fmt.Errorf("%T does not execute", s.Stmt)
	}
	return exec.ExecContext(ctx, args)
}

func (s *faultyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.faults.meet(s.text); err != nil {
		return nil, err
	}
	query, ok := s.Stmt.(driver.StmtQueryContext)
	if !ok {
		return nil, fmt.Errorf("%T does not query", s.Stmt)
	}
	return query.QueryContext(ctx, args)
}
