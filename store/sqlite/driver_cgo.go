//go:build cgo

package sqlite

import (
	"database/sql"
	"net/url"
	"strconv"

	"gorm.io/driver/sqlite" // links github.com/mattn/go-sqlite3, the driver "sqlite3"
	"gorm.io/gorm"
)

func dialector(db *sql.DB) gorm.Dialector { return sqlite.New(sqlite.Config{Conn: db}) }

func writerParams() url.Values {
	v := bothParams()
	v.Set("_journal_mode", "WAL")
	v.Set("_txlock", "immediate")
	return v
}

func readerParams() url.Values {
	v := bothParams()
	v.Set("_query_only", "on")
	v.Set("_txlock", "deferred")
	return v
}

func bothParams() url.Values {
	return url.Values{
		"_busy_timeout": {strconv.FormatInt(busyTimeout.Milliseconds(), 10)},
		"_foreign_keys": {"on"},
		"_synchronous":  {"FULL"}, // the driver's default is NORMAL
	}
}
