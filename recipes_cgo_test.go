//go:build cgo

package threepid_test

import (
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

func sqliteDialector(path string) gorm.Dialector { return sqlite.Open(path) }
