package db_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"gorm.io/gorm"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

// TestMigrateAtOnce starts many nodes together: with an empty database, with one that an
// interrupted Migrate left behind, and with a complete one.
func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	onEach(t, migrateAtOnce)
}

// migrateAtOnce tests the cases one after the other, because several nodes have many connections.
func migrateAtOnce(t *testing.T, s server) {
	t.Helper()
	const rounds = 2 // of each case
	dsn := s.newDatabase(t)
	db := connect(t, s.dialector(dsn), 1)
	migrated(t, newStore(t, db, gormstore.Options{}))
	for _, begin := range []struct {
		name       string
		statements []string
	}{
		{"Empty", []string{"DROP TABLE threepid_sessions", "DROP TABLE threepid_associations", "DROP TABLE threepid_records", "DROP TABLE threepid_schema"}},
		{"NoTables", []string{"DROP TABLE threepid_sessions", "DROP TABLE threepid_associations", "DROP TABLE threepid_records", "DELETE FROM threepid_schema"}},
		{"NoAssociations", []string{"DELETE FROM threepid_sessions", "DROP TABLE threepid_associations", "DELETE FROM threepid_schema"}},
		{"NoVersion", []string{"DELETE FROM threepid_sessions", "DELETE FROM threepid_associations", "DELETE FROM threepid_schema"}},
		{"Version1", []string{
			"DELETE FROM threepid_sessions", "DELETE FROM threepid_associations", "DROP TABLE threepid_records",
			"ALTER TABLE threepid_sessions DROP COLUMN decoy", "ALTER TABLE threepid_sessions DROP COLUMN texts",
			"ALTER TABLE threepid_sessions DROP COLUMN client", "ALTER TABLE threepid_sessions DROP COLUMN client_texts",
			"ALTER TABLE threepid_sessions DROP COLUMN handle", "ALTER TABLE threepid_sessions DROP COLUMN proof",
			"ALTER TABLE threepid_sessions DROP COLUMN epoch", "ALTER TABLE threepid_sessions DROP COLUMN key_id", "ALTER TABLE threepid_sessions DROP COLUMN attempt_purpose",
			"UPDATE threepid_schema SET version = 1",
		}},
		{"HalfWay", []string{
			"DELETE FROM threepid_sessions", "DELETE FROM threepid_associations", "DROP TABLE threepid_records",
			"ALTER TABLE threepid_sessions DROP COLUMN client", "UPDATE threepid_schema SET version = 1",
		}},
		{"Version2", []string{
			"DELETE FROM threepid_sessions", "DELETE FROM threepid_associations",
			"ALTER TABLE threepid_sessions DROP COLUMN epoch", "ALTER TABLE threepid_sessions DROP COLUMN key_id", "ALTER TABLE threepid_sessions DROP COLUMN attempt_purpose", "UPDATE threepid_schema SET version = 2",
		}},
		{"Version6", []string{
			"DELETE FROM threepid_sessions", "DELETE FROM threepid_associations", "ALTER TABLE threepid_sessions DROP COLUMN provider",
			"DROP TABLE threepid_totals", "DROP TABLE threepid_entries", "UPDATE threepid_schema SET version = 6",
		}},
		{"Complete", []string{"DELETE FROM threepid_sessions", "DELETE FROM threepid_associations"}},
	} {
		for range rounds {
			for _, statement := range begin.statements {
				if err := db.Exec(statement).Error; err != nil {
					t.Fatal(err)
				}
			}
			t.Run(begin.name, func(t *testing.T) {
				startAtOnce(t, s, dsn)
				expectComplete(t, db)
			})
		}
	}
}

// startAtOnce starts many nodes, each of which uses its store once.
func startAtOnce(t *testing.T, s server, dsn string) {
	t.Helper()
	const nodes = 16
	var stores [nodes]*gormstore.Store
	for i := range stores {
		stores[i] = newStore(t, connect(t, s.dialector(dsn), 1), gormstore.Options{})
	}
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for i, st := range stores {
		wg.Go(func() {
			<-gate
			number := fmt.Sprintf("4474001234%02d", i)
			err := st.Migrate(t.Context())
			if err == nil {
				err = errors.Join(
					put(t.Context(), st, store.Session{Key: store.SessionKey("s", "GB", number), SID: number, MSISDN: number}),
					st.Associate(t.Context(), store.Association{UserID: "alice", MSISDN: number}),
				)
			}
			if err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		})
	}
	close(gate)
	wg.Wait()
	if list, err := stores[0].List(t.Context(), "alice"); err != nil || len(list) != nodes {
		t.Errorf("%d nodes left %d associations, error %v", nodes, len(list), err)
	}
}

// expectComplete checks that everything exists that Migrate creates.
func expectComplete(t *testing.T, db *gorm.DB) {
	t.Helper()
	var versions []int
	if err := db.Raw("SELECT version FROM threepid_schema").Scan(&versions).Error; err != nil || len(versions) != 1 || versions[0] != 8 {
		t.Errorf("threepid_schema has %v, error %v; want version 8, once", versions, err)
	}
	for _, column := range []string{"decoy", "texts", "client", "client_texts", "handle", "proof", "epoch", "key_id", "attempt_purpose"} {
		if !db.Migrator().HasColumn("threepid_sessions", column) {
			t.Errorf("threepid_sessions has no column %s", column)
		}
	}
	for _, row := range [][2]string{
		{"threepid_sessions", "threepid_sessions_session_key"},
		{"threepid_sessions", "threepid_sessions_expires_at"},
		{"threepid_associations", "threepid_associations_user_id"},
		{"threepid_records", "threepid_records_expires_at"},
	} {
		if !db.Migrator().HasIndex(row[0], row[1]) {
			t.Errorf("%s has no index %s", row[0], row[1])
		}
	}
}
