// Package gormstore keeps sessions, buckets and associations in a database that
// GORM opens with its dialect for SQLite, PostgreSQL or MySQL (MariaDB too). It has
// four tables of its own: threepid_sessions, threepid_buckets,
// threepid_associations and threepid_schema.
//
// GORM makes the tables and writes the SQL of the database's dialect, once.
// Running it is left to database/sql and statements prepared there: reflection
// over rows costs more than the statements themselves, and a statement that
// GORM's own cache prepares inside a transaction is prepared again in each one.
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

// Options says how a [Store] uses its database. The zero value works.
type Options struct {
	// Reader is where Views read, for a database that wants readers on
	// connections of their own, as SQLite does. It must be the same database
	// and see what the writer committed at once: an asynchronous replica does
	// not do. Default: the database given to New.
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

// Store is both a [store.Store] and a [store.Accounts]. Make one with [New],
// and call [Store.Migrate] before the first use.
type Store struct {
	db     *gorm.DB // a session of the host's, for migrations and for SQL text
	sqlite bool

	expectUnprepared bool // whether Migrate looks for statements that the driver prepares

	writer *pool
	reader *pool

	// batches is what SQLite's one writer is shared through; nil elsewhere.
	// Those who queue here are served in order and leave when their context
	// ends, while those who queue in SQLite poll and sleep, some for seconds.
	batches *combiner
}

// New returns a Store over db, or an error when db's dialect is not one for
// SQLite, PostgreSQL or MySQL. The database stays the host's: its settings are not
// changed and it is not closed. Whatever logger db has, the store's statements
// are not logged, because numbers are in them. New does not touch the database.
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
	// Whatever conditions db drags along are left behind here and in each
	// session of own: NewDB does not pass on.
	own := db.Session(&gorm.Session{
		NewDB: true, Context: context.Background(), SkipDefaultTransaction: true, SkipHooks: true, Logger: logger.Discard,
	})
	texts, err := writeQueries(own)
	if err != nil {
		return nil, err
	}
	s := &Store{db: own, sqlite: db.Name() == dialectSQLite, expectUnprepared: o.NoPrepare && db.Name() == dialectPostgreSQL}
	reading, writing := txOptions(db.Name())
	classify := conflictsOf(db.Dialector)
	s.writer = &pool{sqlite: s.sqlite, db: writerDB, options: writing, texts: texts, uses: writerQueries(s.sqlite), classify: classify, noPrepare: o.NoPrepare}
	s.reader = &pool{sqlite: s.sqlite, db: readerDB, options: reading, texts: texts, uses: readerQueries(), classify: classify, noPrepare: o.NoPrepare}
	if s.sqlite {
		s.batches = &combiner{pool: s.writer}
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

// txOptions says how transactions begin in a dialect.
//
// READ COMMITTED is enough to write, since all that Update reads is locked, and
// it spares MySQL's gap locks: with those, two units that look for the same
// absent session and then create it are a deadlock.
func txOptions(dialect string) (reading, writing sql.TxOptions) {
	if dialect == dialectSQLite { // each transaction sees one state of the database anyway
		return sql.TxOptions{ReadOnly: true}, sql.TxOptions{}
	}
	return sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

// Close releases the prepared statements. It waits for nobody and leaves the
// database open, since that is the host's. The Store fails from then on.
func (s *Store) Close() error {
	return errors.Join(s.writer.close(), s.reader.close())
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, fn func(store.Tx) error) error {
	return s.read(ctx, func(u *unit) error {
		return fn(&tx{unit: u, byKey: findByKey, bySID: findBySID, readOnly: true})
	})
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	work := func(u *unit) error {
		if u.light {
			return fn(&tx{unit: u, byKey: findByKey, bySID: findBySID})
		}
		return fn(&tx{unit: u, byKey: lockByKey, bySID: lockBySID})
	}
	if s.sqlite {
		return s.write(ctx, work)
	}
	first := true
	return s.retry(ctx, func() (again bool, err error) {
		if first { // those who have met once wait for each other from then on
			first = false
			return s.writer.light(ctx, work)
		}
		return s.writer.run(ctx, work)
	})
}

// text returns the statement that build makes, without running it.
func (s *Store) text(build func(*gorm.DB) *gorm.DB) *gorm.Statement {
	return build(s.db.Session(&gorm.Session{NewDB: true, DryRun: true})).Statement
}

// read runs fn, which only reads, again while it fails for a conflict.
func (s *Store) read(ctx context.Context, fn func(*unit) error) error {
	if s.sqlite {
		if err := s.reader.expectNoHostLock(ctx, false); err != nil {
			return err
		}
	}
	return s.retry(ctx, func() (again bool, err error) { return s.reader.read(s.within(ctx), fn) })
}

// write runs fn in a transaction, again while it fails for a conflict.
func (s *Store) write(ctx context.Context, fn func(*unit) error) error {
	if s.sqlite {
		if err := s.writer.expectNoHostLock(ctx, true); err != nil {
			return err
		}
	}
	return s.retry(ctx, func() (again bool, err error) {
		if s.sqlite {
			return s.batches.run(ctx, fn)
		}
		return s.writer.run(ctx, fn)
	})
}

// retry calls once until it says that the same again would not work, but a
// bounded number of times.
func (s *Store) retry(ctx context.Context, once func() (again bool, err error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for try := 1; ; try++ {
		again, err := once()
		if !again || try == maxTries {
			return err
		}
		if pauseErr := pause(ctx, try); pauseErr != nil {
			return errors.Join(pauseErr, err)
		}
	}
}

// within returns the context that statements run under. In SQLite it is never
// cancelled: watching a context costs the cgo driver 50 µs a query, which is
// several times the query itself, and a commit that is interrupted half-way
// leaves it open whether anything was kept.
func (s *Store) within(ctx context.Context) context.Context {
	if s.sqlite {
		return context.WithoutCancel(ctx)
	}
	return ctx
}
