//go:build cgo

package main

import (
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

// readOnly opens another server's SQLite file.
func readOnly(path string) gorm.Dialector { return sqlite.Open("file:" + path + "?mode=ro") }
