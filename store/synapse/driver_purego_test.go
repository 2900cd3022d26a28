//go:build !cgo

package synapse_test

import (
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

func dialector(path string) gorm.Dialector { return gormlite.Open("file:" + path) }
