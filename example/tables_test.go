package main_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// The variables that say where database servers are.
const (
	postgresURL = "THREEPID_TEST_POSTGRES"
	mysqlURL    = "THREEPID_TEST_MYSQL"
)

// openDatabase connects to the database that a URL names.
func openDatabase(t *testing.T, name string) *sql.DB {
	t.Helper()
	driver, dsn := "pgx", name
	if strings.HasPrefix(name, "mysql:") {
		u := parseURL(t, name)
		password, _ := u.User.Password()
		driver, dsn = "mysql", u.User.Username()+":"+password+"@tcp("+u.Host+")"+u.Path
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func parseURL(t *testing.T, name string) *url.URL {
	t.Helper()
	u, err := url.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// seats are the connections that all tests together may have to one server,
// which allows 100 by default and has other guests: the tests of the module
// test/db run at the same time.
type seats struct {
	renting sync.Mutex
	taken   chan struct{}
}

var connections = map[string]*seats{
	postgresURL: {taken: make(chan struct{}, 60)},
	mysqlURL:    {taken: make(chan struct{}, 60)},
}

// rent waits until n connections are available. One test rents at a time, so
// that no two wait for each other while each holds half of what it needs.
func (s *seats) rent(t *testing.T, n int) {
	t.Helper()
	s.renting.Lock()
	defer s.renting.Unlock()
	for range n {
		s.taken <- struct{}{}
	}
	t.Cleanup(func() {
		for range n {
			<-s.taken
		}
	})
}

// freshDatabase makes a database next to the one that the variable names, for a
// test that uses the given number of connections, and returns its URL.
func freshDatabase(t *testing.T, variable string, conns int) string {
	t.Helper()
	server := os.Getenv(variable)
	if server == "" {
		t.Skipf("set %s to the URL of a database to run this; see CONTRIBUTING.md", variable)
	}
	connections[variable].rent(t, conns)
	admin := openDatabase(t, server)
	name := fmt.Sprintf("threepid_test_%08x", rand.Uint32())
	drop := "DROP DATABASE " + name
	if variable == postgresURL {
		drop += " WITH (FORCE)" // a process that was killed may be connected still
	}
	if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec(drop); err != nil {
			t.Error(err)
		}
	})
	u := parseURL(t, server)
	u.Path = "/" + name
	return u.String()
}

// databases are the openers of a new database of each kind, for a test that uses
// conns connections.
func databases(conns int) map[string]func(*testing.T) string {
	all := servers(conns)
	all["SQLite"] = func(t *testing.T) string {
		t.Helper()
		return filepath.Join(t.TempDir(), "threepid.db")
	}
	return all
}

// servers is databases without SQLite.
func servers(conns int) map[string]func(*testing.T) string {
	opener := func(variable string) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			return freshDatabase(t, variable, conns)
		}
	}
	return map[string]func(*testing.T) string{"PostgreSQL": opener(postgresURL), "MySQL": opener(mysqlURL)}
}
