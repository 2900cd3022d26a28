// Package sqlite is the embedded store: one SQLite file. It is configured so that a commit survives
// a power failure, and so that readers do not wait for the writer.
//
// With cgo it uses github.com/mattn/go-sqlite3, and without it github.com/ncruces/go-sqlite3, which
// is pure Go. Both register with database/sql under the name "sqlite3", and one program cannot
// contain both: a host that links one of them itself must build with the matching CGO_ENABLED, or
// pass its own *gorm.DB to package gormstore.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

var (
	_ store.Store    = (*Store)(nil)
	_ store.Accounts = (*Store)(nil)
)

const (
	// busyTimeout is how long a statement waits for another process's lock.
	busyTimeout = 10 * time.Second

	// readers is the number of connections for reading. Each has a page cache of its own, and more
	// connections than processors do not help.
	readers = 4
)

// Store is a [gormstore.Store] over a SQLite file. Make one with [Open].
type Store struct {
	*gormstore.Store
	writer, reader *sql.DB
	checkpointer   *checkpointer
}

// Open opens the database at path and migrates its tables. It creates the file if there is none;
// the directory must exist. Only its owner can read and write a new file, because it contains phone
// numbers; an existing file keeps its mode. Several processes may open the same file if it is on a
// local disk.
//
// path is a path in the file system. No character in it has another meaning.
func Open(path string) (*Store, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	real, err := prepareFile(path)
	if err != nil {
		return nil, err
	}
	s, err := openFile(real)
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	return s, nil
}

func checkPath(path string) error {
	switch {
	case path == "", path == ":memory:":
		return fmt.Errorf("sqlite: open %q: a store needs a file; to keep everything in memory, use memstore.New", path)
	case strings.HasPrefix(path, "file:"):
		return errors.New("sqlite: open: give the path of the file, not a URI; to keep everything in memory, use memstore.New")
	case strings.ContainsRune(path, 0):
		return errors.New("sqlite: open: the path has a NUL byte in it")
	default:
		return nil
	}
}

// prepareFile creates the file unless it exists, and returns its absolute path without symbolic
// links: connections may be opened later, when the working directory has changed, and all of them
// must find the same -wal file.
//
// It never opens an existing file, because closing it again would release the POSIX locks of all
// connections that this process has to it.
func prepareFile(path string) (string, error) {
	const ownerOnly = 0o600
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, ownerOnly) //nolint:gosec // the host names the file
	switch {
	case err == nil:
		err = f.Close()
	case errors.Is(err, fs.ErrExist):
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("sqlite: %w", err)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("sqlite: %w", err)
	}
	if real, err = filepath.Abs(real); err != nil {
		return "", fmt.Errorf("sqlite: find %s: %w", path, err)
	}
	info, err := os.Stat(real)
	if err != nil {
		return "", fmt.Errorf("sqlite: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("sqlite: open %s: it is not a regular file", path)
	}
	return real, nil
}

func openFile(path string) (s *Store, err error) {
	s = &Store{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	if s.writer, err = openPool(fileURI(path, writerParams()), 1); err != nil {
		return s, err
	}
	if s.reader, err = openPool(fileURI(path, readerParams()), readers); err != nil {
		return s, err
	}
	// The writer comes first: a reader cannot switch the file to WAL.
	if err := connect(s.writer); err != nil {
		return s, err
	}
	if err := verify(s.writer); err != nil {
		return s, err
	}
	if _, err := s.writer.ExecContext(context.Background(), fmt.Sprintf("PRAGMA wal_autocheckpoint = %d", autoCheckpointPages)); err != nil {
		return s, err
	}
	if s.Store, err = overPools(s.writer, s.reader); err != nil {
		return s, err
	}
	if err := s.Migrate(context.Background()); err != nil {
		return s, err
	}
	if err := checkWritable(s.writer); err != nil {
		return s, err
	}
	checkpoints, err := openPool(fileURI(path, writerParams()), 1)
	if err != nil {
		return s, err
	}
	s.checkpointer = startCheckpointer(checkpoints)
	return s, nil
}

// openPool returns a pool whose connections stay open, because opening one costs more than a
// transaction.
func openPool(uri string, conns int) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", uri)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// connect opens a connection, which switches the file to WAL mode if necessary. For that, SQLite
// needs exclusive access to the file. If several processes open a new file together, it fails at
// once, without waiting for busyTimeout.
func connect(writer *sql.DB) error {
	const pause = 10 * time.Millisecond
	for waited := time.Duration(0); ; waited += pause {
		err := writer.PingContext(context.Background())
		if err == nil || waited > busyTimeout || !strings.Contains(err.Error(), "database is locked") {
			return err
		}
		time.Sleep(pause/2 + rand.N(pause)) //nolint:gosec // nothing secret hangs on the length of a pause
	}
}

func overPools(writer, reader *sql.DB) (*gormstore.Store, error) {
	write, err := gorm.Open(dialector(writer), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	read, err := gorm.Open(dialector(reader), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, err
	}
	return gormstore.New(write, gormstore.Options{Reader: read})
}

// fileURI escapes all characters that have a meaning in a URI. SQLite and the drivers each look for
// a question mark, and must see only ours.
func fileURI(path string, params url.Values) string {
	// By default, the pure-Go driver does not create the -wal file, which contains the same phone
	// numbers, with the mode of the file itself.
	params.Set("modeof", path)
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // before a drive letter
	}
	// net/url encodes a space as a plus sign, which SQLite does not decode.
	query := strings.ReplaceAll(params.Encode(), "+", "%20")
	u := url.URL{Scheme: "file", Path: path, RawQuery: query}
	return u.String()
}

// verify checks that the settings on which the store's guarantees depend are in effect: a driver or
// a file system that ignores a setting reports no error.
func verify(writer *sql.DB) error {
	const full = "2"
	for _, want := range []struct{ pragma, value, meaning string }{
		{"journal_mode", "wal", "its file system may lack shared memory, as network ones do"},
		{"synchronous", full, "a power cut could take back what was answered"},
	} {
		var got string
		if err := writer.QueryRowContext(context.Background(), "PRAGMA "+want.pragma).Scan(&got); err != nil {
			return err
		}
		if got != want.value {
			return fmt.Errorf("%s is %s and cannot be set to %s: %s", want.pragma, got, want.value, want.meaning)
		}
	}
	return nil
}

// checkWritable finds a read-only file at the start and not at the first request, because SQLite
// opens such a file without an error. The statement takes the write lock and changes nothing.
func checkWritable(writer *sql.DB) error {
	_, err := writer.ExecContext(context.Background(), "UPDATE threepid_schema SET version = version WHERE 0 = 1")
	return err
}

// Close closes the database. Units of work in progress fail or are completed. After that, all calls
// fail.
func (s *Store) Close() error {
	var errs []error
	if s.Store != nil {
		errs = append(errs, s.Store.Close())
	}
	if s.checkpointer != nil {
		errs = append(errs, s.checkpointer.Close())
	}
	// The last connection to close copies the WAL into the file, which a read-only connection may
	// not do.
	for _, pool := range []*sql.DB{s.reader, s.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}
