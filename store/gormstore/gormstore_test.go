package gormstore_test

import (
	"bytes"
	"context"
	"errors"
	"log"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

// openHost returns a database as a host opens it, with the log written to out.
func openHost(tb testing.TB, out *bytes.Buffer) *gorm.DB {
	tb.Helper()
	return openHostAt(tb, filepath.Join(tb.TempDir(), "host.db"), out)
}

func openHostAt(tb testing.TB, path string, out *bytes.Buffer) *gorm.DB {
	tb.Helper()
	config := &gorm.Config{Logger: logger.Discard}
	if out != nil {
		config.Logger = logger.New(log.New(out, "", 0), logger.Config{LogLevel: logger.Info})
	}
	db, err := gorm.Open(hostDialector(path), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		pool, err := db.DB()
		if err == nil {
			err = pool.Close()
		}
		if err != nil {
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
	if err := s.Migrate(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return s
}

func session(n byte) store.Session {
	return store.Session{Key: store.Key{n, 1}, SID: "sid-" + string('a'+rune(n)), MSISDN: "447400123456", ExpiresAt: 1}
}

// fill returns a unit of work that creates or replaces a session.
func fill(s store.Session) (store.Names, func(*store.Rows) error) {
	return store.Names{Session: store.SessionRef{Key: s.Key}}, func(rows *store.Rows) error {
		rows.Session = s
		return nil
	}
}

// put stores sessions, each in a unit of its own.
func put(ctx context.Context, s store.Store, sessions ...store.Session) error {
	for i := range sessions {
		names, change := fill(sessions[i])
		if err := s.Update(ctx, names, change); err != nil {
			return err
		}
	}
	return nil
}

// expectSID returns store.ErrNotFound for a session that is absent.
func expectSID(ctx context.Context, s store.Store, sid string) error {
	rows, err := s.View(ctx, store.Names{Session: store.SessionRef{SID: sid}})
	if err == nil && rows.Session.SID == "" {
		err = store.ErrNotFound
	}
	return err
}

func TestHostsDatabaseIsLeftAlone(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	db := openHost(t, &out)
	config := *db.Config
	s := newStore(t, db.Where("1 = 0"), gormstore.Options{}) // conditions of the handle must not matter
	if err := put(t.Context(), s, session(1)); err != nil {
		t.Fatal(err)
	}
	if err := expectSID(t.Context(), s, session(1).SID); err != nil {
		t.Errorf("through a handle with a condition: %v", err)
	}
	clash := session(3)
	clash.SID = session(1).SID
	if err := put(t.Context(), s, clash); err == nil { // GORM logs errors by default
		t.Fatal("a second session with one sid was stored")
	}
	if db.Logger != config.Logger || db.SkipDefaultTransaction || db.PrepareStmt || db.DryRun || db.ConnPool != config.ConnPool {
		t.Error("the host's settings were changed")
	}
	if out.Len() > 0 {
		t.Errorf("the host's logger was given statements:\n%s", out.String())
	}
	if n, err := s.DeleteExpired(t.Context(), time.UnixMilli(session(1).ExpiresAt), 2); n != 1 || err != nil {
		t.Errorf("DeleteExpired through a handle with a condition: %d, %v; want 1", n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec("SELECT 1").Error; err != nil {
		t.Errorf("the host's database after Close: %v", err)
	}
	if err := put(t.Context(), s, session(2)); err == nil {
		t.Error("Update after Close returned nil")
	}
}

// otherDialect wraps db with the name of an unsupported dialect.
func otherDialect(db *gorm.DB) *gorm.DB {
	other := *db.Config
	other.Dialector = sqlServer{db.Dialector}
	own := db.Session(&gorm.Session{NewDB: true})
	own.Config = &other
	return own
}

type sqlServer struct{ gorm.Dialector }

func (sqlServer) Name() string { return "sqlserver" }

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := gormstore.New(nil, gormstore.Options{}); err == nil {
		t.Error("nil: got no error")
	}
	db := openHost(t, nil)
	if _, err := gormstore.New(db.Session(&gorm.Session{}).Where("?", 1).Set("a", 1), gormstore.Options{}); err != nil {
		t.Errorf("a session of the host's: %v", err)
	}
	err := db.Transaction(func(tx *gorm.DB) error {
		_, err := gormstore.New(tx, gormstore.Options{})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "transaction") {
		t.Errorf("a transaction: got %v", err)
	}
	if _, err := gormstore.New(otherDialect(db), gormstore.Options{}); err == nil || !strings.Contains(err.Error(), `"sqlserver"`) {
		t.Errorf("another dialect: got %v", err)
	}
	if _, err := gormstore.New(db, gormstore.Options{Reader: otherDialect(db)}); err == nil || !strings.Contains(err.Error(), `"sqlserver"`) {
		t.Errorf("a reader of another dialect: got %v", err)
	}
	broken := db.Session(&gorm.Session{})
	_ = broken.AddError(errors.New("no connection"))
	if _, err := gormstore.New(broken, gormstore.Options{}); err == nil {
		t.Error("a *gorm.DB that failed: got no error")
	}
}
