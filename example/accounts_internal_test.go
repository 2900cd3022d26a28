package main

import (
	"path/filepath"
	"testing"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store/sqlite"
)

// TestAccountsInAnOddlyNamedFile opens a database whose path has characters with a meaning in a URI.
func TestAccountsInAnOddlyNamedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a#b?c%41 d.db")
	writable, err := sqlite.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := writable.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := gorm.Open(readOnly(path), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	if !db.Migrator().HasTable("threepid_sessions") {
		t.Error("another file was opened")
	}
	if err := db.Exec("DELETE FROM threepid_sessions").Error; err == nil {
		t.Error("the file is writable")
	}
}
