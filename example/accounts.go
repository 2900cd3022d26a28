package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
	"example.com/threepid/store/synapse"
)

// lookUpConnections is the maximum number of connections to the database of -accounts.
const lookUpConnections = 8

// readOnlyURI returns the URI of another server's SQLite file, for access without writing.
func readOnlyURI(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=ro"
}

// openAccounts opens the accounts of -accounts, which is "synapse:" followed by Synapse's database.
func openAccounts(name string) (accounts store.Accounts, closeAll func(), err error) {
	database, ok := strings.CutPrefix(name, "synapse:")
	if !ok || database == "" {
		return nil, nil, errors.New("-accounts must be synapse: followed by Synapse's database, a postgres:// URL or an SQLite file")
	}
	dialector := readOnly(database)
	if scheme, _, isURL := strings.Cut(database, "://"); isURL {
		if scheme != "postgres" && scheme != "postgresql" {
			return nil, nil, fmt.Errorf("-accounts: Synapse does not support %q; use a postgres:// URL or an SQLite file", scheme)
		}
		dialector = postgres.Open(database)
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard, DisableAutomaticPing: true})
	if err != nil {
		return nil, nil, fmt.Errorf("-accounts: open Synapse's database: %w", withoutURL(err))
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, fmt.Errorf("-accounts: %w", err)
	}
	pool.SetMaxOpenConns(lookUpConnections)
	pool.SetMaxIdleConns(lookUpConnections)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return synapse.Accounts(db), func() { _ = pool.Close() }, nil
}
