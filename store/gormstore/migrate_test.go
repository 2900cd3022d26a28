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
	if err := put(t.Context(), s, session(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	if err := expectSID(t.Context(), s, session(1).SID); err != nil {
		t.Errorf("after a second Migrate: %v", err)
	}
	for _, index := range []string{"threepid_sessions_session_key", "threepid_sessions_expires_at", "threepid_associations_user_id", "threepid_records_expires_at"} {
		var n int
		if err := db.Raw("SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = ?", index).Scan(&n).Error; err != nil || n != 1 {
			t.Errorf("index %s: found %d, error %v", index, n, err)
		}
	}
	if err := db.Exec("UPDATE threepid_schema SET version = 70").Error; err != nil {
		t.Fatal(err)
	}
	err := s.Migrate(t.Context())
	if !errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), "version 70") || !strings.Contains(err.Error(), "up to 8") {
		t.Errorf("over a newer schema: got %v, want ErrNewerSchema with both versions", err)
	}
}

// TestMigrateFromVersion1 migrates a database of the first release, also after an interrupted
// migration. Its rows are preserved.
func TestMigrateFromVersion1(t *testing.T) {
	t.Parallel()
	for _, cut := range []string{"", "ALTER TABLE threepid_sessions ADD COLUMN decoy integer NOT NULL DEFAULT 0"} {
		db := openHost(t, nil)
		s := newStore(t, db, gormstore.Options{})
		want := session(1)
		if err := put(t.Context(), s, want); err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			"ALTER TABLE threepid_sessions DROP COLUMN decoy", "ALTER TABLE threepid_sessions DROP COLUMN texts",
			"ALTER TABLE threepid_sessions DROP COLUMN client", "ALTER TABLE threepid_sessions DROP COLUMN client_texts",
			"ALTER TABLE threepid_sessions DROP COLUMN handle", "ALTER TABLE threepid_sessions DROP COLUMN proof",
			"ALTER TABLE threepid_sessions DROP COLUMN epoch", "ALTER TABLE threepid_sessions DROP COLUMN key_id",
			"DROP TABLE threepid_records", "UPDATE threepid_schema SET version = 1", cut,
		} {
			if err := db.Exec(statement).Error; statement != "" && err != nil {
				t.Fatal(err)
			}
		}
		s = newStore(t, db, gormstore.Options{})
		if err := expectSID(t.Context(), s, want.SID); err != nil {
			t.Errorf("after %q: %v", cut, err)
		}
		names := store.Names{Session: store.SessionRef{SID: want.SID}, Records: []store.Key{{1}}}
		err := s.Update(t.Context(), names, func(rows *store.Rows) error {
			if old := rows.Session; old.Decoy || old.Texts != 0 || old.Client != "" || old.DelegateID != "" || old.AcceptedTokenDigest != "" || old.Epoch != "" || old.KeyID != "" || old.AttemptPurpose != "" {
				t.Errorf("an old session has %+v", old)
			}
			rows.Session.Texts, rows.Records[0].State = 3, "x"
			return nil
		})
		if err != nil {
			t.Errorf("after %q: %v", cut, err)
		}
	}
}

// TestMigrateFromVersion5 migrates a database with buckets, also after an interrupted migration.
// The buckets become records.
func TestMigrateFromVersion5(t *testing.T) {
	t.Parallel()
	key := store.Key{1}
	for _, cut := range []string{"", "INSERT INTO threepid_records VALUES (x'" + key.String() + "', 'state', 5, 1)"} {
		db := openHost(t, nil)
		newStore(t, db, gormstore.Options{})
		for _, statement := range []string{
			"CREATE TABLE threepid_buckets (bucket_key blob PRIMARY KEY, state text NOT NULL, expires_at integer NOT NULL)",
			"INSERT INTO threepid_buckets VALUES (x'" + key.String() + "', 'state', 5)",
			"UPDATE threepid_schema SET version = 5", cut,
		} {
			if err := db.Exec(statement).Error; statement != "" && err != nil {
				t.Fatal(err)
			}
		}
		s := newStore(t, db, gormstore.Options{})
		rows, err := s.View(t.Context(), store.Names{Records: []store.Key{key}})
		if want := (store.Record{Key: key, State: "state", ExpiresAt: 5}); err != nil || rows.Records[0] != want {
			t.Errorf("after %q: %+v, error %v", cut, rows.Records, err)
		}
		if db.Migrator().HasTable("threepid_buckets") {
			t.Error("the table threepid_buckets is still there")
		}
	}
}

func TestMigrateContinuesAfterAnInterruption(t *testing.T) {
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

// The error at the start, or of the call that needs it, names what is missing.
func TestMissingTables(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ statement, names string }{
		{"DROP TABLE threepid_sessions", "threepid_sessions"},
		{"DROP TABLE threepid_associations", "threepid_associations"},
		{"DROP TABLE threepid_records", "threepid_records"},
		{"ALTER TABLE threepid_sessions DROP COLUMN nonce", "nonce"},
	} {
		t.Run(row.statement, func(t *testing.T) {
			t.Parallel()
			db := openHost(t, nil)
			s := newStore(t, db, gormstore.Options{})
			use := func() error {
				_, err := s.DeleteExpired(t.Context(), time.UnixMilli(1), 10)
				_, listErr := s.List(t.Context(), "alice")
				_, viewErr := s.View(t.Context(), store.Names{Records: []store.Key{{1}}})
				return errors.Join(err, listErr, viewErr, put(t.Context(), s, session(1)), expectSID(t.Context(), s, session(1).SID))
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
	err = put(t.Context(), s, session(1))
	if err == nil || !strings.Contains(err.Error(), "Migrate") {
		t.Errorf("got %v, want an error that names Migrate", err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), s, session(1)); err != nil {
		t.Errorf("after Migrate: %v", err)
	}
}
