package history_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
	"example.com/threepid/store/sqlite"
)

// bothStores is the interface that the nodes need.
type bothStores interface {
	store.Store
	store.Accounts
}

// connections is the number of connections of each node.
const connections = 8

// database is the database that the nodes of a test share.
type database struct {
	Kind string // sqlite, postgres or mysql
	DSN  string
}

// open opens a node's store.
func (d database) open(ctx context.Context) (st bothStores, closeStore func(), err error) {
	var dialector gorm.Dialector
	switch d.Kind {
	case "sqlite":
		file, err := sqlite.Open(d.DSN)
		if err != nil {
			return nil, nil, err
		}
		return file, func() { _ = file.Close() }, nil
	case "postgres":
		dialector = postgres.Open(d.DSN)
	default:
		dialector = mysql.Open(d.DSN)
	}
	db, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, nil, err
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	server, err := gormstore.New(db, gormstore.Options{})
	if err != nil {
		return nil, nil, err
	}
	if err := server.Migrate(ctx); err != nil {
		return nil, nil, err
	}
	return server, func() { _, _ = server.Close(), pool.Close() }, nil
}

// through returns the database as reached through another address.
func (d database) through(address string) database {
	if d.Kind == "postgres" {
		u, err := url.Parse(d.DSN)
		if err != nil {
			panic(err)
		}
		u.Host = address
		return database{d.Kind, u.String()}
	}
	config, err := mysqldriver.ParseDSN(d.DSN)
	if err != nil {
		panic(err)
	}
	config.Addr = address
	return database{d.Kind, config.FormatDSN()}
}

func newFile(t *testing.T) database {
	t.Helper()
	return database{"sqlite", filepath.Join(t.TempDir(), "threepid.db")}
}

// newPostgres creates a schema for the test, and also returns the server's address.
func newPostgres(t *testing.T) (d database, address string) {
	t.Helper()
	u := serverURL(t, "THREEPID_TEST_POSTGRES")
	name := create(t, "pgx", u.String(), "CREATE SCHEMA %s", "DROP SCHEMA %s CASCADE")
	query := u.Query()
	query.Set("search_path", name)
	u.RawQuery = query.Encode()
	return database{"postgres", u.String()}, u.Host
}

// newMySQL creates a database for the test, and also returns the server's address.
func newMySQL(t *testing.T) (d database, address string) {
	t.Helper()
	u := serverURL(t, "THREEPID_TEST_MYSQL")
	config := mysqldriver.NewConfig()
	config.Net, config.Addr, config.DBName = "tcp", u.Host, strings.TrimPrefix(u.Path, "/")
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.DBName = create(t, "mysql", config.FormatDSN(), "CREATE DATABASE %s CHARACTER SET utf8mb4", "DROP DATABASE %s")
	return database{"mysql", config.FormatDSN()}, u.Host
}

func serverURL(t *testing.T, variable string) *url.URL {
	t.Helper()
	address := os.Getenv(variable)
	if address == "" {
		t.Skipf("no database server: set %s to the URL of a database to run this; see CONTRIBUTING.md", variable)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// create creates a schema or database with a random name until the test ends.
func create(t *testing.T, driver, dsn, create, drop string) (name string) {
	t.Helper()
	admin, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	name = fmt.Sprintf("threepid_%016x", rand.Uint64())
	if _, err := admin.Exec(fmt.Sprintf(create, name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec(fmt.Sprintf(drop, name)); err != nil {
			t.Error(err)
		}
		_ = admin.Close()
	})
	return name
}
