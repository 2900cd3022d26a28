//go:build cgo

package main

import (
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

// readOnly returns a dialector that opens another server's SQLite file without write access.
func readOnly(path string) gorm.Dialector { return sqlite.Open(readOnlyURI(path)) }
