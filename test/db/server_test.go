package db_test

import (
	"database/sql"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// Servers allow 100 or 150 connections by default and have other clients. Few tests open more than
// one store.
const (
	testsAtOnce = 6
	connections = 4 // of a store
)

func TestMain(m *testing.M) {
	// The number of parallel tests must not depend on the number of processors: with many there
	// would be too many connections, and with few the tests would wait for the disk one after the
	// other. The flag -parallel overrides this.
	if err := flag.Set("test.parallel", fmt.Sprint(testsAtOnce)); err != nil {
		panic(err)
	}
	m.Run()
}

// server is a database server.
type server struct {
	name      string
	variable  string // environment variable with the URL of a database
	url       *url.URL
	driver    string
	create    string // creates a database or schema for a test
	drop      string
	dsn       func(address *url.URL, name string) string // an empty name means the database of the URL
	dialector func(dsn string) gorm.Dialector
}

func servers() []server {
	return []server{
		{
			name: "PostgreSQL", variable: "THREEPID_TEST_POSTGRES", driver: "pgx",
			// Creating a database takes a hundred times as long as creating a schema.
			create: "CREATE SCHEMA %s", drop: "DROP SCHEMA %s CASCADE",
			dsn: postgresDSN, dialector: postgres.Open,
		},
		{
			name: "MySQL", variable: "THREEPID_TEST_MYSQL", driver: "mysql",
			// The tables must not inherit the database's character set.
			create: "CREATE DATABASE %s CHARACTER SET latin1", drop: "DROP DATABASE %s",
			dsn: mysqlDSN, dialector: mysql.Open,
		},
	}
}

func postgresDSN(address *url.URL, name string) string {
	own := *address
	query := own.Query()
	// The tests cause deadlocks. By default, PostgreSQL looks for a deadlock only after a second.
	query.Set("deadlock_timeout", "50ms")
	if name != "" {
		query.Set("search_path", name)
	}
	own.RawQuery = query.Encode()
	return own.String()
}

func mysqlDSN(address *url.URL, name string) string {
	config := mysqldriver.NewConfig()
	config.Net, config.Addr, config.DBName = "tcp", address.Host, strings.TrimPrefix(address.Path, "/")
	config.User = address.User.Username()
	config.Passwd, _ = address.User.Password()
	if name != "" {
		config.DBName = name
	}
	return config.FormatDSN()
}

// onEach runs a test on each server that is available.
func onEach(t *testing.T, run func(t *testing.T, s server)) {
	t.Helper()
	for _, s := range servers() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			if os.Getenv(s.variable) == "" {
				t.Skipf("set %s to the URL of a database to run this; see CONTRIBUTING.md", s.variable)
			}
			run(t, s.at(t))
		})
	}
}

// at returns s with the address in the environment.
func (s server) at(tb testing.TB) server {
	tb.Helper()
	var err error
	if s.url, err = url.Parse(os.Getenv(s.variable)); err != nil {
		tb.Fatal(err)
	}
	return s
}

// newDatabase creates a database for the test, and returns its data source name.
func (s server) newDatabase(tb testing.TB) string {
	tb.Helper()
	admin, err := sql.Open(s.driver, s.dsn(s.url, ""))
	if err != nil {
		tb.Fatal(err)
	}
	admin.SetMaxIdleConns(0) // it is used only twice
	name := fmt.Sprintf("threepid_%016x", rand.Uint64())
	if _, err := admin.Exec(fmt.Sprintf(s.create, name)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if _, err := admin.Exec(fmt.Sprintf(s.drop, name)); err != nil {
			tb.Error(err)
		}
		if err := admin.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s.dsn(s.url, name)
}
