package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// replicated is a PostgreSQL primary and a standby that has every commit before
// it is acknowledged.
type replicated struct {
	owner            owner
	bin              string
	standbyDir       string
	primary, standby string // ports
	kill             func()
}

func startReplicated(t *testing.T) *replicated {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("there is no PostgreSQL server below /usr/lib/postgresql; install Debian's package postgresql to run this")
	}
	ports := freePorts(t, 2)
	r := &replicated{
		owner: newOwner(t, "postgres"), bin: filepath.Dir(found[len(found)-1]), primary: ports[0], standby: ports[1],
	}
	primaryDir := r.owner.dir()
	r.standbyDir = filepath.Join(r.owner.dir(), "data")
	r.owner.run(r.bin+"/initdb", "-A", "trust", "-U", "postgres", "-D", primaryDir)
	server := r.start(primaryDir, r.primary, "-c", "synchronous_standby_names=standby")
	r.owner.run(r.bin+"/pg_basebackup", "-R", "-c", "fast", "-D", r.standbyDir,
		"-d", "host=127.0.0.1 port="+r.primary+" user=postgres application_name=standby")
	r.start(r.standbyDir, r.standby)
	eventually(t, "the standby is synchronous", func() bool {
		return r.ask(r.primary, "SELECT sync_state FROM pg_stat_replication") == "sync"
	})
	if got := r.ask(r.primary, "CREATE DATABASE threepid"); got != "CREATE DATABASE" {
		t.Fatalf("create database: %s", got)
	}
	r.kill = func() { _ = server.Signal(syscall.SIGQUIT) } // it ends at once, as in a crash, with all its processes
	return r
}

// start starts a server on a directory. Only SIGQUIT does not wait for clients.
func (r *replicated) start(dir, port string, args ...string) *os.Process {
	r.owner.t.Helper()
	args = append([]string{
		"-D", dir, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=120",
	}, args...)
	cmd := r.owner.start(syscall.SIGQUIT, r.bin+"/postgres", args...)
	eventually(r.owner.t, "PostgreSQL accepts connections", func() bool { return r.ask(port, "SELECT 1") == "1" })
	return cmd.Process
}

func (r *replicated) ask(port, query string) string {
	output, _ := r.owner.command(r.bin+"/psql", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-tAc", query).CombinedOutput()
	return strings.TrimSpace(string(output))
}

// url names both servers: a client looks for the one that can be written.
func (r *replicated) url() string {
	return "postgres://postgres@127.0.0.1:" + r.primary + ",127.0.0.1:" + r.standby +
		"/threepid?target_session_attrs=primary&connect_timeout=2"
}

// TestPostgresFailover kills the primary under load and promotes the standby. What
// was acknowledged holds, no SMS is sent twice that was acknowledged, every code
// validates, and the nodes go on without a restart.
func TestPostgresFailover(t *testing.T) {
	t.Parallel()
	r := startReplicated(t)
	g := newGateway(t, delay(20*time.Millisecond))
	c := startCluster(t, 2, r.url(), g)
	l := &ledger{t: t, gateway: g, lenient: true}
	ends := []func(){}
	for _, node := range c.nodes {
		ends = append(ends, background(func(stop <-chan struct{}) { l.requestUntilOK(node.url, 8, stop) }))
	}
	time.Sleep(time.Second)
	killed := time.Now()
	r.kill()
	r.owner.run(r.bin+"/pg_ctl", "promote", "-w", "-D", r.standbyDir)
	promoted := time.Now()
	time.Sleep(2 * time.Second)
	together(len(ends), func(i int) { ends[i]() })
	first := l.firstAcknowledged(promoted)
	t.Logf("promoted %v after the primary was killed; the first request was acknowledged %v later", promoted.Sub(killed), first.Sub(promoted))
	if first.IsZero() {
		t.Error("no request was acknowledged after the promotion")
	}
	l.lenient = false
	l.retryAcknowledged(c.url(0))
	l.retryUnacknowledged(c.url(1))
	l.submitAll(c.url(0))
	l.audit()
	for _, s := range c.nodes {
		g.expectDiscreet(t, s.stderr.String())
		s.stop()
	}
}

// firstAcknowledged returns when an attempt was first acknowledged after that time.
func (l *ledger) firstAcknowledged(after time.Time) (first time.Time) {
	var mu sync.Mutex
	l.each(1, func(a *account) {
		mu.Lock()
		defer mu.Unlock()
		for _, acknowledged := range a.acknowledged {
			if acknowledged.After(after) && (first.IsZero() || acknowledged.Before(first)) {
				first = acknowledged
			}
		}
	})
	return first
}
