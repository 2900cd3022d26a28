//go:build !cgo

package main

import (
	_ "github.com/ncruces/go-sqlite3/driver" // the driver "sqlite3"
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

// The waiting for locks has to come first.
const byHandParams = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)"

func defaultDialector(path string) gorm.Dialector { return gormlite.Open(path) }
