//go:build !cgo

package sqlite

import (
	"database/sql"
	"fmt"
	"net/url"

	_ "github.com/ncruces/go-sqlite3/driver" // the driver "sqlite3"
	"github.com/ncruces/go-sqlite3/gormlite"
	"gorm.io/gorm"
)

func dialector(db *sql.DB) gorm.Dialector { return gormlite.OpenDB(db) }

func writerParams() url.Values {
	return url.Values{
		"_pragma": append(bothPragmas(), "journal_mode(wal)"),
		"_txlock": {"immediate"},
	}
}

func readerParams() url.Values {
	return url.Values{
		"_pragma": append(bothPragmas(), "query_only(on)"),
		"_txlock": {"deferred"},
	}
}

// bothPragmas run in this order: the timeout for locks must be set first.
func bothPragmas() []string {
	return []string{
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"foreign_keys(on)",
		"synchronous(full)",
	}
}
