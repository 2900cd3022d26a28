package db_test

import (
	"context"
	"testing"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/internal/plugintest"
	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
	"example.com/threepid/store/storetest"
)

// connect opens a pool of n connections, like one process.
func connect(tb testing.TB, dialector gorm.Dialector, connections int) *gorm.DB {
	tb.Helper()
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		tb.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		tb.Fatal(err)
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	tb.Cleanup(func() {
		if err := pool.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

func newStore(tb testing.TB, db *gorm.DB, o gormstore.Options) *gormstore.Store {
	tb.Helper()
	s, err := gormstore.New(db, o)
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

// open returns a store over a new database.
func (s server) open(tb testing.TB) plugintest.Store {
	tb.Helper()
	return migrated(tb, newStore(tb, connect(tb, s.dialector(s.newDatabase(tb)), connections), gormstore.Options{}))
}

func migrated(tb testing.TB, st *gormstore.Store) *gormstore.Store {
	tb.Helper()
	if err := st.Migrate(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return st
}

// openNodes returns a new database as used by several processes.
func (s server) openNodes(tb testing.TB) plugintest.Store {
	tb.Helper()
	dsn := s.newDatabase(tb)
	node := func() storetest.Node {
		return migrated(tb, newStore(tb, connect(tb, s.dialector(dsn), connections/3), gormstore.Options{}))
	}
	return storetest.Nodes(node(), node(), node())
}

func TestStore(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		storetest.Run(t, func(tb testing.TB) store.Store { tb.Helper(); return s.open(tb) })
	})
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		storetest.RunAccounts(t, func(tb testing.TB) store.Accounts { tb.Helper(); return s.open(tb) }, storetest.AccountsOptions{})
	})
}

func TestStoreOnSeveralNodes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		storetest.Run(t, func(tb testing.TB) store.Store { tb.Helper(); return s.openNodes(tb) })
	})
}

func TestAccountsOnSeveralNodes(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		storetest.RunAccounts(t, func(tb testing.TB) store.Accounts { tb.Helper(); return s.openNodes(tb) }, storetest.AccountsOptions{})
	})
}

// TestPlugin runs only with several nodes: what holds for them holds for one.
func TestPlugin(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		plugintest.RunStorage(t, s.openNodes)
	})
}

func TestRedeemTx(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		plugintest.RunRedeemTx(t, func(tb testing.TB) (*gorm.DB, plugintest.Store) {
			tb.Helper()
			db := connect(tb, s.dialector(s.newDatabase(tb)), 2*connections)
			return db, migrated(tb, newStore(tb, db, gormstore.Options{}))
		})
	})
}

// openPooled returns a store as a host behind a connection pooler uses it. Such a pooler keeps no
// prepared statement from one transaction to the next.
func (s server) openPooled(tb testing.TB) (*gorm.DB, *gormstore.Store) {
	tb.Helper()
	dialector := postgres.New(postgres.Config{DSN: s.newDatabase(tb), PreferSimpleProtocol: true})
	db := connect(tb, dialector, connections)
	return db, migrated(tb, newStore(tb, db, gormstore.Options{NoPrepare: true}))
}

// TestNoPrepare is for PostgreSQL only: poolers for MySQL keep statements.
func TestNoPrepare(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		if s.name != "PostgreSQL" {
			return
		}
		storetest.Run(t, func(tb testing.TB) store.Store { tb.Helper(); _, st := s.openPooled(tb); return st })
		t.Run("NothingIsPrepared", func(t *testing.T) {
			t.Parallel()
			expectNothingPrepared(t, s)
		})
	})
}

func expectNothingPrepared(t *testing.T, s server) {
	t.Helper()
	db, st := s.openPooled(t)
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1) // so that the query uses the same connection
	if err := put(t.Context(), st, store.Session{Key: store.Key{1}, SID: "sid", MSISDN: "447400123456"}); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.Raw("SELECT count(*) FROM pg_prepared_statements").Scan(&n).Error; err != nil || n != 0 {
		t.Errorf("%d statements are prepared, error %v", n, err)
	}
}

// put creates or replaces a session.
func put(ctx context.Context, s store.Store, session store.Session) error {
	return s.Update(ctx, store.Names{Session: store.SessionRef{Key: session.Key}}, func(rows *store.Rows) error {
		rows.Session = session
		return nil
	})
}
