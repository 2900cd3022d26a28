package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/sqlite"
)

// long returns the nth session, with more than a page of data.
func long(n int) store.Session {
	return store.Session{
		Key: store.SessionKey("secret", "GB", fmt.Sprint(n)), SID: fmt.Sprintf("long-%d", n), MSISDN: "447400123456",
		NextLink: strings.Repeat("x", 2048), Nonce: []byte{}, ExpiresAt: 1,
	}
}

// pragma runs a PRAGMA on the connection that writes.
func pragma(t *testing.T, s *sqlite.Store, statement string) {
	t.Helper()
	writer, _ := sqlite.Pools(s)
	if _, err := writer.ExecContext(t.Context(), "PRAGMA "+statement); err != nil {
		t.Fatal(err)
	}
}

// TestFull lets the database run out of space while many callers share transactions. A session that
// was reported as stored is found, and no other is. When there is space again, everything works.
func TestFull(t *testing.T) {
	t.Parallel()
	const callers, each = 32, 10
	s := open(t, filepath.Join(t.TempDir(), "threepid.db"))
	pragma(t, s, "max_page_count = 150")
	var kept [callers * each]error
	keep := func(i int) error { return putSession(context.Background(), s, long(i)) }
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < len(kept); i += callers {
				kept[i] = keep(i)
			}
		})
	}
	wg.Wait()
	failed := 0
	for i, err := range kept {
		if err != nil {
			failed++
			if !strings.Contains(err.Error(), "full") {
				t.Errorf("session %d: got %v, want an error that says why", i, err)
			}
		}
		if got := findLong(t, s, i); (got == nil) != (err == nil) {
			t.Errorf("session %d: Update returned %v, then it is %v", i, err, got)
		}
	}
	if failed == 0 || failed == len(kept) {
		t.Fatalf("%d of %d failed: the space did not run out on the way", failed, len(kept))
	}
	pragma(t, s, "max_page_count = 1000000")
	for i, err := range kept {
		if err == nil {
			continue
		}
		if err := keep(i); err != nil {
			t.Errorf("session %d, with space again: %v", i, err)
		}
	}
}

func findLong(t *testing.T, s store.Store, i int) error {
	t.Helper()
	err := find(t.Context(), s, long(i).SID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		t.Errorf("session %d: %v", i, err)
	}
	return err
}

// TestReadOnlyForAWhile makes the database refuse writes. They fail with the reason, and reads
// succeed. Later, writes succeed again.
func TestReadOnlyForAWhile(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "threepid.db"))
	if err := put(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	pragma(t, s, "query_only = 1")
	if err := put(t.Context(), s, 2); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("got %v, want an error that says why", err)
	}
	if err := find(t.Context(), s, "sid1"); err != nil {
		t.Errorf("View: %v", err)
	}
	pragma(t, s, "query_only = 0")
	if err := put(t.Context(), s, 2); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestHistoryGivesWay lets another process hold the lock for longer than a background write waits,
// but not as long as a request waits. The two share a connection.
func TestHistoryGivesWay(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "threepid.db")
	s, err := sqlite.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	lock := func() (release func()) {
		t.Helper()
		db, err := sql.Open("sqlite3", "file:"+path)
		if err != nil {
			t.Fatal(err)
		}
		db.SetMaxOpenConns(1)
		if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
			t.Fatal(err)
		}
		return func() {
			if _, err := db.ExecContext(context.Background(), "ROLLBACK"); err != nil {
				t.Error(err)
			}
			_ = db.Close()
		}
	}
	total := []store.Total{{At: 1, Name: "sms", Node: "node", Count: 1, ExpiresAt: 1}}
	release := lock()
	began := time.Now()
	err = s.PutTotals(t.Context(), total)
	if took := time.Since(began); err == nil || took > 5*time.Second {
		t.Errorf("a write in the background returned %v after %v, while another process holds the lock", err, took)
	}
	go func() {
		time.Sleep(2 * time.Second)
		release()
	}()
	err = s.Update(t.Context(), store.Names{Records: []store.Key{store.RecordKey("x")}}, func(rows *store.Rows) error {
		rows.Records[0].State, rows.Records[0].ExpiresAt = "x", 1
		return nil
	})
	if err != nil {
		t.Errorf("a unit does not wait for the lock after that: %v", err)
	}
	if err := s.PutTotals(t.Context(), total); err != nil {
		t.Error(err)
	}
}

// TestUnitsThatWaitForTheLockShareABatch lets another process hold the lock for longer than a
// stalled batch delays the next one. All units that arrive in that time share one further batch.
func TestUnitsThatWaitForTheLockShareABatch(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "threepid.db")
	s := open(t, path)
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	var batches [3]int
	var wg sync.WaitGroup
	for i := range batches {
		wg.Go(func() {
			ctx := store.WithReport(t.Context(), func(r store.Run) { batches[i] = r.Batch })
			if err := put(ctx, s, i); err != nil {
				t.Errorf("unit %d: %v", i, err)
			}
		})
		time.Sleep(700 * time.Millisecond)
	}
	if _, err := db.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if want := [3]int{1, 2, 2}; batches != want {
		t.Errorf("the units were in batches of %v, want %v", batches, want)
	}
}
