//go:build !cgo

package main

import (
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

// readOnly returns a dialector that opens another server's SQLite file without write access.
func readOnly(path string) gorm.Dialector { return gormlite.Open(readOnlyURI(path)) }
