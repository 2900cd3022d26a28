package sqlite_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/sqlite"
)

// exec runs a statement on a connection that is not the store's.
func exec(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	writer, reader := sqlite.Pools(openNew(t))
	for _, test := range []struct{ pragma, writer, reader string }{
		{"journal_mode", "wal", "wal"},
		{"synchronous", "2", "2"},
		{"foreign_keys", "1", "1"},
		{"busy_timeout", "10000", "10000"},
		{"query_only", "0", "1"},
	} {
		for _, pool := range []struct {
			name, want string
			db         *sql.DB
		}{{"writer", test.writer, writer}, {"reader", test.reader, reader}} {
			var got string
			if err := pool.db.QueryRow("PRAGMA " + test.pragma).Scan(&got); err != nil || got != pool.want {
				t.Errorf("%s: %s is %s (error %v), want %s", pool.name, test.pragma, got, err, pool.want)
			}
		}
	}
	if n := writer.Stats().MaxOpenConnections; n != 1 {
		t.Errorf("the writer has up to %d connections", n)
	}
}

// A reader does not delay the writer, nor the writer a reader.
func TestReadersAndWriterDoNotWait(t *testing.T) {
	t.Parallel()
	s := openNew(t)
	_, reader := sqlite.Pools(s)
	rows, err := reader.QueryContext(t.Context(), "SELECT sid FROM threepid_sessions UNION ALL SELECT 'at work'")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	if !rows.Next() || put(t.Context(), s, 1) != nil {
		t.Fatal("the reader or the writer failed")
	}
	err = s.Update(t.Context(), store.Names{}, func(*store.Rows) error { return find(t.Context(), s, "sid1") })
	if err != nil || rows.Err() != nil {
		t.Fatal(err, rows.Err())
	}
}

//nolint:paralleltest // it counts what the process has
func TestCloseReleasesEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "threepid.db")
	use := func() {
		s := open(t, path)
		if err := errors.Join(put(t.Context(), s, 1), find(t.Context(), s, "sid1")); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	use() // so that the driver's global state exists
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 5 {
		use()
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > goroutines || openFiles(t) > files {
		if time.Now().After(deadline) {
			t.Fatalf("goroutines %d, then %d; files %d, then %d", goroutines, runtime.NumGoroutine(), files, openFiles(t))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0 // this system has no such list
	}
	return len(entries)
}
