//go:build cgo

package gormstore_test

import (
	"database/sql"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

// hostDialector is what a host writes that gives no thought to SQLite's settings.
func hostDialector(path string) gorm.Dialector { return sqlite.Open(path) }

// overPool is a host's database over connections that it has opened itself.
func overPool(db *sql.DB) gorm.Dialector { return sqlite.New(sqlite.Config{Conn: db}) }
