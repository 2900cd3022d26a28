package db_test

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gorm.io/driver/postgres"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
	"example.com/threepid/store/storetest"
)

// TestPgBouncer uses a real PgBouncer in transaction mode. Debian's version is older than 1.21 and
// keeps no prepared statements. The data source name is the one that gormstore.Options.NoPrepare
// requires.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		if s.name != "PostgreSQL" {
			return
		}
		program := findPgBouncer(t)
		open := func(tb testing.TB, mode string) *gormstore.Store {
			tb.Helper()
			dsn := s.startPgBouncer(tb, program) + mode
			return newStore(tb, connect(tb, postgres.Open(dsn), connections), gormstore.Options{NoPrepare: true})
		}
		const unprepared = "&default_query_exec_mode=exec"
		storetest.Run(t, func(tb testing.TB) store.Store { tb.Helper(); return migrated(tb, open(tb, unprepared)) })
		storetest.RunAccounts(t, func(tb testing.TB) store.Accounts { tb.Helper(); return migrated(tb, open(tb, unprepared)) },
			storetest.AccountsOptions{})
		t.Run("NoPrepareAlone", func(t *testing.T) {
			t.Parallel()
			err := open(t, "").Migrate(t.Context())
			if err == nil || !strings.Contains(err.Error(), "default_query_exec_mode=exec") {
				t.Errorf("Migrate with a driver that prepares: got %v", err)
			}
		})
	})
}

func findPgBouncer(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if program, err := exec.LookPath(name); err == nil {
			return program
		}
	}
	t.Skip("there is no pgbouncer; install it to run this, on Debian with apt-get install pgbouncer")
	return ""
}

// startPgBouncer starts a PgBouncer in front of a new database, with fewer connections to the
// server than a store has to PgBouncer. It returns a data source name.
func (s server) startPgBouncer(tb testing.TB, program string) string {
	tb.Helper()
	behind, err := url.Parse(s.newDatabase(tb))
	if err != nil {
		tb.Fatal(err)
	}
	port := freePort(tb)
	user := behind.User.Username()
	if password, ok := behind.User.Password(); ok {
		user += " password='" + password + "'"
	}
	config := fmt.Sprintf(`[databases]
threepid = host=%s port=%s dbname=%s user=%s connect_query='SET search_path = %s; SET deadlock_timeout = 50'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = %d
max_client_conn = 100
`, behind.Hostname(), behind.Port(), strings.TrimPrefix(behind.Path, "/"), user,
		behind.Query().Get("search_path"), port, connections-1)
	dir, err := os.MkdirTemp("", "pgbouncer") // other users cannot read t.TempDir
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), program, file)
	asNobody(tb, cmd, dir, file)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if tb.Failed() {
			tb.Logf("PgBouncer:\n%s", out.String())
		}
	})
	awaitPort(tb, port)
	return fmt.Sprintf("postgres://threepid@127.0.0.1:%d/threepid?sslmode=disable", port)
}

// asNobody makes a program that root starts run as another user, because PgBouncer refuses to run
// as root.
func asNobody(tb testing.TB, cmd *exec.Cmd, files ...string) {
	tb.Helper()
	const nobody = 65534
	if os.Getuid() != 0 {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	for _, file := range files {
		if err := os.Chown(file, nobody, nobody); err != nil {
			tb.Fatal(err)
		}
	}
}

func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func awaitPort(tb testing.TB, port int) {
	tb.Helper()
	const patience, pause = 5 * time.Second, 10 * time.Millisecond
	for waited := time.Duration(0); waited < patience; waited += pause {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = c.Close()
			return
		}
		time.Sleep(pause)
	}
	tb.Fatalf("PgBouncer does not listen on port %d", port)
}
