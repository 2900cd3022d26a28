//go:build cgo

package gormstore_test

import (
	"database/sql"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

// hostDialector opens a file as a host does that does not think about SQLite's settings.
func hostDialector(path string) gorm.Dialector { return sqlite.Open(path) }

// overPool opens a host's database over connections that the host has opened itself.
func overPool(db *sql.DB) gorm.Dialector { return sqlite.New(sqlite.Config{Conn: db}) }
