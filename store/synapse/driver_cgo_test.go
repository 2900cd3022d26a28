//go:build cgo

package synapse_test

import (
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
)

func dialector(path string) gorm.Dialector { return sqlite.Open(path) }
