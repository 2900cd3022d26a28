//go:build !cgo

package gormstore_test

import (
	"database/sql"

	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

// hostDialector opens a host's database with deferred transactions: this driver's default is
// immediate.
func hostDialector(path string) gorm.Dialector {
	return gormlite.Open("file:" + path + "?_txlock=deferred")
}

// overPool opens a host's database over connections that the host has opened itself.
func overPool(db *sql.DB) gorm.Dialector { return gormlite.OpenDB(db) }
