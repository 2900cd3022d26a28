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

// replicated is a PostgreSQL primary with a synchronous standby.
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
		t.Skip("PostgreSQL is missing below /usr/lib/postgresql: apt-get install postgresql")
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
	r.kill = func() { _ = server.Signal(syscall.SIGQUIT) } // all of its processes end at once, as in a crash
	return r
}

// start starts a server with a data directory. It is stopped with SIGQUIT, which does not wait for
// clients.
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

// url returns a URL with both servers. Clients connect to the one that accepts writes.
func (r *replicated) url() string {
	return "postgres://postgres@127.0.0.1:" + r.primary + ",127.0.0.1:" + r.standby +
		"/threepid?target_session_attrs=primary&connect_timeout=2"
}

// TestPostgresFailover kills the primary under load and promotes the standby. What was
// acknowledged must still be true, no acknowledged attempt may send a second SMS, every code must
// validate, and the nodes must work without a restart.
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

// firstAcknowledged returns the time of the first acknowledgement after the given time.
func (l *ledger) firstAcknowledged(after time.Time) (first time.Time) {
	var mu sync.Mutex
	l.each(1, func(a *account) {
		mu.Lock()
		defer mu.Unlock()
		for _, when := range a.acknowledged {
			if when.After(after) && (first.IsZero() || when.Before(first)) {
				first = when
			}
		}
	})
	return first
}
