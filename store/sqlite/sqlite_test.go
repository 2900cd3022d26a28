package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/threepid/store"
	"example.com/threepid/store/sqlite"
	"example.com/threepid/store/storetest"
)

func open(tb testing.TB, path string) *sqlite.Store {
	tb.Helper()
	s, err := sqlite.Open(path)
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

func openNew(tb testing.TB) *sqlite.Store {
	tb.Helper()
	return open(tb, filepath.Join(tb.TempDir(), "threepid.db"))
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(tb testing.TB) store.Store {
		tb.Helper()
		return openNew(tb)
	})
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	storetest.RunAccounts(t, func(tb testing.TB) store.Accounts {
		tb.Helper()
		return openNew(tb)
	}, storetest.AccountsOptions{})
}

// put stores the nth session.
func put(ctx context.Context, s store.Store, n int) error {
	return putSession(ctx, s, store.Session{Key: store.Key{byte(n), byte(n >> 8), 1}, SID: fmt.Sprint("sid", n)})
}

func putSession(ctx context.Context, s store.Store, session store.Session) error {
	return s.Update(ctx, store.Names{Session: store.SessionRef{Key: session.Key}}, func(rows *store.Rows) error {
		rows.Session = session
		return nil
	})
}

// find looks up a sid, and returns store.ErrNotFound if there is no such session.
func find(ctx context.Context, s store.Store, sid string) error {
	rows, err := s.View(ctx, store.Names{Session: store.SessionRef{SID: sid}})
	if err == nil && rows.Session.SID == "" {
		err = store.ErrNotFound
	}
	return err
}

func TestReopenFindsTheRows(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "threepid.db")
	first := open(t, path)
	if err := put(t.Context(), first, 1); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Stat(path + left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close there is a %s file: %v", left, err)
		}
	}
	if err := find(t.Context(), open(t, path), "sid1"); err != nil {
		t.Error(err)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"plain.db", "what?mode=memory&_synchronous=OFF", "100%", "%41", "a#b", "a b", "é中🙂", "a;b&c=d", `it's "it"`, "file", "+", "x.db?",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "in "+name)
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name)
			s := open(t, path)
			if err := put(t.Context(), s, 1); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Size() == 0 && walSize(path) == 0 {
				t.Errorf("nothing was written there: %v", err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				if !strings.HasPrefix(entry.Name(), name) {
					t.Errorf("there is a file %q", entry.Name())
				}
			}
		})
	}
}

func walSize(path string) int64 {
	info, err := os.Stat(path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}

func TestRelativePathAndLink(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s := open(t, "threepid.db")
	if err := os.Symlink("threepid.db", "link.db"); err != nil {
		t.Skipf("run the tests where symbolic links can be made: %v", err)
	}
	linked := open(t, "link.db")
	if size := walSize(filepath.Join(dir, "threepid.db")); size == 0 {
		t.Error("the database is not in the working directory")
	}
	t.Chdir(t.TempDir()) // connections are opened later, in the new directory
	if err := put(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	if err := find(t.Context(), linked, "sid1"); err != nil {
		t.Error(err)
	}
}

func TestNewFileIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "threepid.db")
	s := open(t, path)
	if err := put(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal"} { // the -shm file has page numbers only
		info, err := os.Stat(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if mode := info.Mode().Perm(); mode&0o077 != 0 {
			t.Errorf("%s has mode %o", filepath.Base(name), mode)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte(strings.Repeat("no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, want string }{
		{"", "memstore"},
		{":memory:", "memstore"},
		{"file::memory:?cache=shared", "memstore"},
		{"file:" + filepath.Join(dir, "a.db"), "not a URI"},
		{filepath.Join(dir, "absent", "a.db"), filepath.Join(dir, "absent", "a.db")},
		{dir, dir},
		{garbage, garbage},
		{"a\x00b", "NUL"},
	} {
		s, err := sqlite.Open(test.path)
		if err == nil {
			_ = s.Close()
			t.Errorf("Open(%q) succeeded", test.path)
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("Open(%q): %v; want an error that says %q", test.path, err, test.want)
		}
	}
}

func TestOpenRefusesNewerSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "threepid.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	exec(t, path, "UPDATE threepid_schema SET version = 70")
	s, err := sqlite.Open(path)
	if err == nil {
		_ = s.Close()
	}
	if !errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want ErrNewerSchema with the path", err)
	}
}

func TestOpenRefusesReadOnlyFile(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; run the tests as another user, as .ci/run does")
	}
	path := filepath.Join(t.TempDir(), "threepid.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(path)
	if err == nil {
		_ = s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v, want an error that names the path", err)
	}
	if !strings.Contains(err.Error(), "readonly") && !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("got %v, want an error that says why", err)
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	storetest.RunCounters(t, func(tb testing.TB) store.Counters {
		tb.Helper()
		return openNew(tb)
	})
}

func TestHistory(t *testing.T) {
	t.Parallel()
	storetest.RunHistory(t, func(tb testing.TB) storetest.HistoryStore {
		tb.Helper()
		return openNew(tb)
	})
}
