// Package gormstore keeps sessions, records and associations in a database that
// GORM opens with its dialect for SQLite, PostgreSQL or MySQL (MySQL 8, MariaDB
// 10.6). It has four tables of its own: threepid_sessions, threepid_records,
// threepid_associations and threepid_schema.
//
// Units of work that wait at the same time share a batch: one statement reads the
// rows of all, the units change them in memory, one after the other, and one write
// stores them. A row has a version, which is part of the condition of each write:
// so no row is locked while the database waits for this process, and a row that
// another transaction has locked or changed holds up only the units that name it. The
// versions also let a unit use rows that this process has just read or written, without
// reading them again: if another process has changed them since, nothing is stored, and the
// unit reads them.
// On PostgreSQL a write is one statement and on MariaDB one block, each a
// transaction by itself. MySQL has nothing like that: there a process that stops
// within a write holds locks until the server notices.
//
// # MySQL and failover
//
// When a primary becomes a read-only replica without closing its connections, a
// pool keeps using them, and every write fails until the process restarts. With
// rejectReadOnly=true in the data source name, github.com/go-sql-driver/mysql closes
// a connection on which the server refuses a write for that reason, and the next
// one is opened to wherever the name leads by then.
package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
)

var (
	_ store.Store    = (*Store)(nil)
	_ store.Accounts = (*Store)(nil)
)

// The names of GORM's dialects. All of its SQLite dialects share one name, and so
// do MySQL and MariaDB.
const (
	dialectSQLite     = "sqlite"
	dialectPostgreSQL = "postgres"
	dialectMySQL      = "mysql"
)

// Options configure a [Store]. The zero value works.
type Options struct {
	// Reader is the database from which View reads, for databases that need separate
	// connections for readers, such as SQLite. It must be the same database and see every
	// commit at once, so an asynchronous replica is not suitable. Defaults to the database
	// passed to New.
	Reader *gorm.DB

	// NoPrepare sends each statement as text. It is for a connection pooler
	// that does not keep prepared statements, such as PgBouncer in transaction
	// mode, before 1.21 or without max_prepared_statements. The driver must not
	// prepare them either: pgx, which is GORM's driver for PostgreSQL, does so by
	// default, and needs default_query_exec_mode=exec in the data source name.
	// Migrate returns an error when the driver prepares statements. (With
	// simple_protocol, and with GORM's PreferSimpleProtocol, it does not, but then
	// values are part of the statement, and PostgreSQL logs them when a statement
	// fails.) Defaults to preparing statements once for each connection.
	NoPrepare bool
}

// Store implements [store.Store], [store.Accounts] and [store.Counters]. Call [New], and
// [Store.Migrate] before the first use.
type Store struct {
	db             *gorm.DB // a session of the host's, for migrations
	classify       func(error) conflict
	noPrepare      bool
	writer, reader *pool
	updates        *group[*unit]
	retries        *group[*unit] // of units that conflicted with another transaction
	views          *group[*view]
	recent         *recent

	mu      sync.Mutex
	dialect *dialect // nil before the first use
}

// New returns a Store over db, or an error if db's dialect is not for SQLite, PostgreSQL or
// MySQL. It does not access the database. The host keeps ownership of db: the Store changes
// none of its settings and does not close it. The Store's statements are never logged,
// because they contain numbers.
func New(db *gorm.DB, o Options) (*Store, error) {
	if o.Reader == nil {
		o.Reader = db
	}
	writerDB, err := sqlDB(db)
	if err != nil {
		return nil, err
	}
	readerDB, err := sqlDB(o.Reader)
	if err != nil {
		return nil, err
	}
	// own must not inherit the conditions of db, and neither must the sessions of own: NewDB
	// applies to one session only.
	own := db.Session(&gorm.Session{
		NewDB: true, Context: context.Background(), SkipDefaultTransaction: true, SkipHooks: true, Logger: logger.Discard,
	})
	s := &Store{
		db: own, classify: conflictsOf(db.Dialector), noPrepare: o.NoPrepare,
		writer: &pool{sqlite: db.Name() == dialectSQLite, db: writerDB, noPrepare: o.NoPrepare},
		recent: newRecent(),
		reader: &pool{sqlite: db.Name() == dialectSQLite, db: readerDB, noPrepare: o.NoPrepare},
	}
	if db.Name() == dialectMySQL {
		// The store compares the versions of all rows, so this level is sufficient. It avoids gap
		// locks, with which two units that create adjacent rows would deadlock.
		s.writer.options.Isolation = sql.LevelReadCommitted
	}
	s.updates, s.retries, s.views = newGroup(s.runUpdates), newGroup(s.work), newGroup(s.runViews)
	if db.Name() == dialectSQLite {
		// SQLite has one writer. A second batch would only wait for the first, and units that
		// arrive in the meantime would have to wait for a third.
		s.updates.stall, s.retries.stall = noStall, noStall
	}
	return s, nil
}

// sqlDB returns the pool under db.
func sqlDB(db *gorm.DB) (*sql.DB, error) {
	if db == nil {
		return nil, errors.New("gormstore: the *gorm.DB is nil")
	}
	if db.Error != nil {
		return nil, fmt.Errorf("gormstore: the *gorm.DB has failed already: %w", db.Error)
	}
	if _, ok := db.Statement.ConnPool.(gorm.TxCommitter); ok {
		return nil, errors.New("gormstore: the *gorm.DB is a transaction; give the store the database itself")
	}
	if name := db.Name(); name != dialectSQLite && name != dialectPostgreSQL && name != dialectMySQL {
		return nil, fmt.Errorf("gormstore: GORM's dialect %q is not supported; use %q, %q or %q (for MariaDB too)",
			name, dialectSQLite, dialectPostgreSQL, dialectMySQL)
	}
	pool, err := db.DB()
	if err != nil {
		return nil, fmt.Errorf("gormstore: find the connections of the *gorm.DB: %w", err)
	}
	return pool, nil
}

// Close releases the prepared statements, without waiting for units of work. It leaves the
// host's database open. The Store fails from then on.
func (s *Store) Close() error {
	return errors.Join(s.writer.close(), s.reader.close())
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	return store.Follow(names, func(names store.Names) error {
		if err := errors.Join(ctx.Err(), s.writer.expectNoHostLock(ctx, true)); err != nil {
			return err
		}
		u := newUnit(ctx, names, change)
		s.updates.add(u)
		return u.wait()
	})
}

// view is one call of View in progress.
type view struct {
	ctx   context.Context // stored, because a view lives as long as its call
	names store.Names
	rows  store.Rows
	run   store.Run
	done  chan error // capacity 1
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, names store.Names) (store.Rows, error) {
	if err := errors.Join(ctx.Err(), s.reader.expectNoHostLock(ctx, false)); err != nil {
		return store.Rows{}, err
	}
	v := &view{ctx: ctx, names: names, done: make(chan error, 1)}
	s.views.add(v)
	select {
	case err := <-v.done:
		store.Report(ctx, v.run)
		return v.rows, err
	case <-ctx.Done():
		return store.Rows{}, ctx.Err()
	}
}

// runViews reads the rows of all views with one statement.
func (s *Store) runViews(views []*view) {
	ctx, cancel := s.background()
	defer cancel()
	p := s.recent.begin()
	for _, v := range views {
		p.want(v.names)
	}
	runs := 0
	err := s.retry(ctx, func() error {
		runs++
		d, err := s.prepare(ctx, s.reader)
		if err != nil {
			return s.fail("prepare", err, false)
		}
		return s.fail("read rows", p.load(ctx, s.reader.in(nil), d.read), false)
	})
	if err == nil && s.remembers() {
		s.recent.keep(p)
	}
	for _, v := range views {
		if err == nil {
			rows, _ := p.rows(v.names)
			v.rows = rows.Clone()
		}
		v.run = store.Run{Batch: len(views), Retries: max(0, runs-1)}
		v.done <- err
	}
}

// remembers reports whether units use remembered rows. They do where a read is a round trip.
func (s *Store) remembers() bool { return s.db.Name() != dialectSQLite }

// retry calls once until it succeeds or fails for another reason than a conflict or a lost
// connection, at most maxTries times.
func (s *Store) retry(ctx context.Context, once func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := once()
		var failed *failure
		if !errors.As(err, &failed) || failed.conflict == conflictNone || try == maxTries {
			return err
		}
		if pauseErr := pause(ctx, try); pauseErr != nil {
			return errors.Join(pauseErr, err)
		}
	}
}

// prepare returns the dialect, after preparing the pool's statements.
func (s *Store) prepare(ctx context.Context, p *pool) (*dialect, error) {
	if err := p.awaitConnection(ctx); err != nil {
		return nil, err
	}
	d, err := s.findDialect(ctx)
	if err != nil {
		return nil, err
	}
	texts := d.prepared
	if p == s.reader {
		texts = func() []string { return d.prepared()[:1] }
	}
	return d, p.prepare(ctx, texts)
}

func (s *Store) findDialect(ctx context.Context) (*dialect, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dialect != nil {
		return s.dialect, nil
	}
	d := sqlite()
	switch s.db.Name() {
	case dialectPostgreSQL:
		d = postgres()
	case dialectMySQL:
		var version string
		if err := s.writer.db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
			return nil, err
		}
		d = mysql(strings.Contains(version, "MariaDB"))
	}
	s.dialect = &d
	return s.dialect, nil
}

// background returns the context of a batch. On SQLite it is never cancelled, for two reasons:
// watching a context costs the cgo driver 50 µs for each query, several times the query itself, and
// after an interrupted commit it is unknown whether anything was stored.
func (s *Store) background() (context.Context, context.CancelFunc) {
	if s.db.Name() == dialectSQLite {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), statementTimeout)
}
