//go:build !cgo

package main

import (
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

// readOnly opens another server's SQLite file.
func readOnly(path string) gorm.Dialector { return gormlite.Open("file:" + path + "?mode=ro") }
