//go:build cgo

package main

import (
	"gorm.io/driver/sqlite" // links github.com/mattn/go-sqlite3, the driver "sqlite3"
	"gorm.io/gorm"
)

const byHandParams = "?_busy_timeout=5000&_journal_mode=WAL&_synchronous=FULL"

func defaultDialector(path string) gorm.Dialector { return sqlite.Open(path) }
