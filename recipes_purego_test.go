//go:build !cgo

package threepid_test

import (
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

func sqliteDialector(path string) gorm.Dialector { return gormlite.Open(path) }
