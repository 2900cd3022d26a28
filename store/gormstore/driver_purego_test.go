//go:build !cgo

package gormstore_test

import (
	"database/sql"

	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

// hostDialector is a host's database with deferred transactions: this driver's
// own default is immediate.
func hostDialector(path string) gorm.Dialector {
	return gormlite.Open("file:" + path + "?_txlock=deferred")
}

// overPool is a host's database over connections that it has opened itself.
func overPool(db *sql.DB) gorm.Dialector { return gormlite.OpenDB(db) }
