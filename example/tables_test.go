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

// The environment variables with the URLs of database servers.
const (
	postgresURL = "THREEPID_TEST_POSTGRES"
	mysqlURL    = "THREEPID_TEST_MYSQL"
)

// openDatabase opens the database of a URL.
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

// pool limits the connections of all tests to one server. By default, a server allows 100
// connections, and the tests of the module test/db run at the same time.
type pool struct {
	acquiring sync.Mutex
	taken     chan struct{}
}

var connections = map[string]*pool{
	postgresURL: {taken: make(chan struct{}, 60)},
	mysqlURL:    {taken: make(chan struct{}, 60)},
}

// acquire waits until n connections are available, and takes them until the end of the test.
// Only one test acquires at a time. Otherwise, two tests that each have some of their
// connections could wait for each other.
func (p *pool) acquire(t *testing.T, n int) {
	t.Helper()
	p.acquiring.Lock()
	defer p.acquiring.Unlock()
	for range n {
		p.taken <- struct{}{}
	}
	t.Cleanup(func() {
		for range n {
			<-p.taken
		}
	})
}

// freshDatabase creates a database on the server of the variable, for a test that uses
// the given number of connections, and returns its URL. The test's cleanup drops it.
func freshDatabase(t *testing.T, variable string, conns int) string {
	t.Helper()
	server := os.Getenv(variable)
	if server == "" {
		t.Skipf("%s is not set to the URL of a database: see CONTRIBUTING.md", variable)
	}
	connections[variable].acquire(t, conns)
	admin := openDatabase(t, server)
	name := fmt.Sprintf("threepid_test_%08x", rand.Uint32())
	drop := "DROP DATABASE " + name
	if variable == postgresURL {
		drop += " WITH (FORCE)" // connections of a killed process may still be open
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

// databases returns functions that create a new database of each kind, for a test that uses
// conns connections.
func databases(conns int) map[string]func(*testing.T) string {
	all := servers(conns)
	all["SQLite"] = func(t *testing.T) string {
		t.Helper()
		return filepath.Join(t.TempDir(), "threepid.db")
	}
	return all
}

// servers is like databases, without SQLite.
func servers(conns int) map[string]func(*testing.T) string {
	opener := func(variable string) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			return freshDatabase(t, variable, conns)
		}
	}
	return map[string]func(*testing.T) string{"PostgreSQL": opener(postgresURL), "MySQL": opener(mysqlURL)}
}
