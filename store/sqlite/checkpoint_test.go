package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The WAL is copied into the file as it grows. An unfinished statement would let it grow without
// bound.
func TestWALStaysBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "threepid.db")
	s := open(t, path)
	const units = 4000 // each of at least four pages
	for i := range units {
		if err := put(t.Context(), s, i); err != nil {
			t.Fatal(err)
		}
	}
	const bound = 40 << 20 // a checkpoint happens after 8,000 pages of 4 KiB at the latest
	if size := walSize(path); size > bound {
		t.Errorf("after %d units the WAL has %d bytes", units, size)
	}
}

// Changes reach the file within moments, and not only when the WAL is full.
func TestWALIsCheckpointed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "threepid.db")
	s := open(t, path)
	before := fileSize(t, path)
	for i := range 200 {
		if err := put(t.Context(), s, i); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(20 * time.Second); fileSize(t, path) == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the file has not grown")
		}
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
