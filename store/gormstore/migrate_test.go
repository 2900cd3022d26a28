package gormstore_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
	"example.com/threepid/store/sqlite"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	db := openHost(t, nil)
	s := newStore(t, db, gormstore.Options{})
	if err := s.Update(t.Context(), put(session(1))); err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	if err := expectSID(t.Context(), s, session(1).SID); err != nil {
		t.Errorf("after a second Migrate: %v", err)
	}
	for _, index := range []string{"threepid_sessions_session_key", "threepid_sessions_expires_at", "threepid_associations_user_id"} {
		var n int
		if err := db.Raw("SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = ?", index).Scan(&n).Error; err != nil || n != 1 {
			t.Errorf("index %s: found %d, error %v", index, n, err)
		}
	}
	if err := db.Exec("UPDATE threepid_schema SET version = 7").Error; err != nil {
		t.Fatal(err)
	}
	err := s.Migrate(t.Context())
	if !errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), "version 7") || !strings.Contains(err.Error(), "up to 1") {
		t.Errorf("over a newer schema: got %v, want ErrNewerSchema with both versions", err)
	}
}

func TestMigrateGoesOnWhereItWasCutOff(t *testing.T) {
	t.Parallel()
	db := openHost(t, nil)
	newStore(t, db, gormstore.Options{})
	for _, statement := range []string{"DROP TABLE threepid_associations", "DELETE FROM threepid_schema"} {
		if err := db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	s := newStore(t, db, gormstore.Options{})
	if err := s.Associate(t.Context(), store.Association{UserID: "alice", MSISDN: "1"}); err != nil {
		t.Error(err)
	}
}

// What somebody has taken away is named, at the start and by whoever needs it.
func TestTablesTakenAway(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ statement, names string }{
		{"DROP TABLE threepid_sessions", "threepid_sessions"},
		{"DROP TABLE threepid_associations", "threepid_associations"},
		{"ALTER TABLE threepid_sessions DROP COLUMN nonce", "nonce"},
	} {
		t.Run(row.statement, func(t *testing.T) {
			t.Parallel()
			db := openHost(t, nil)
			s := newStore(t, db, gormstore.Options{})
			use := func() error {
				_, err := s.DeleteExpired(t.Context(), time.UnixMilli(1), 10)
				_, listErr := s.List(t.Context(), "alice")
				return errors.Join(err, listErr, s.Update(t.Context(), put(session(1))), expectSID(t.Context(), s, session(1).SID))
			}
			if err := use(); err != nil {
				t.Fatal(err)
			}
			if err := db.Exec(row.statement).Error; err != nil {
				t.Fatal(err)
			}
			for what, err := range map[string]error{"use": use(), "Migrate": s.Migrate(t.Context())} {
				if err == nil || !strings.Contains(err.Error(), row.names) ||
					!strings.Contains(err.Error(), "Migrate") && !strings.Contains(err.Error(), "backup") {
					t.Errorf("%s: got %v, want an error that names %s and says what to do", what, err, row.names)
				}
			}
		})
	}
}

func TestMigrateManyAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := sqlite.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestUseBeforeMigrate(t *testing.T) {
	t.Parallel()
	s, err := gormstore.New(openHost(t, nil), gormstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), put(session(1)))
	if err == nil || !strings.Contains(err.Error(), "Migrate") {
		t.Errorf("got %v, want an error that names Migrate", err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), put(session(1))); err != nil {
		t.Errorf("after Migrate: %v", err)
	}
}
