package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const galeraNodes = 3

// startGalera starts a cluster of MariaDB servers that all accept writes. It returns the URL of a
// new database, for each server.
func startGalera(t *testing.T) []string {
	t.Helper()
	provider := "/usr/lib/galera/libgalera_smm.so"
	for _, file := range []string{provider, "/usr/sbin/mariadbd", "/usr/bin/rsync"} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("%s is missing: apt-get install mariadb-server galera-4 rsync", file)
		}
	}
	// The user is not mysql, because Galera's scripts may stop processes of their user, which could
	// belong to another server on this machine.
	o := newOwner(t, "daemon")
	ports := freePorts(t, 4*galeraNodes)
	listen, group, transfer, copies := ports[:3], ports[3:6], ports[6:9], ports[9:]
	dirs := make([]string, galeraNodes)
	for i := range dirs {
		dirs[i] = o.dir()
	}
	o.run("mariadb-install-db", "--no-defaults", "--datadir="+dirs[0], "--auth-root-authentication-method=normal", "--skip-test-db")
	members := "127.0.0.1:" + strings.Join(group, ",127.0.0.1:")
	urls := make([]string, galeraNodes)
	for i := range galeraNodes {
		args := []string{
			"--no-defaults", "--datadir=" + dirs[i], "--port=" + listen[i], "--bind-address=127.0.0.1",
			"--socket=" + filepath.Join(dirs[i], "socket"), "--pid-file=" + filepath.Join(dirs[i], "pid"),
			"--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--innodb-buffer-pool-size=64M",
			"--wsrep-on=ON", "--wsrep-provider=" + provider, "--wsrep-cluster-name=threepid",
			"--wsrep-cluster-address=gcomm://" + members, "--wsrep-node-address=127.0.0.1",
			"--wsrep-provider-options=base_host=127.0.0.1;gcache.size=64M;gmcast.listen_addr=tcp://127.0.0.1:" + group[i] +
				";ist.recv_addr=127.0.0.1:" + transfer[i],
			"--wsrep-sst-method=rsync", "--wsrep-sst-receive-address=127.0.0.1:" + copies[i],
		}
		if i == 0 {
			args = append(args, "--wsrep-new-cluster")
		}
		o.start(syscall.SIGKILL, "mariadbd", args...)
		eventually(t, "a member of the cluster is synced", func() bool {
			return strings.HasSuffix(askMySQL(listen[i], "SHOW STATUS LIKE 'wsrep_local_state_comment'"), "Synced")
		})
		// Without wsrep_sync_wait, a member may not have yet what another one has committed.
		urls[i] = "mysql://root@127.0.0.1:" + listen[i] + "/threepid?wsrep_sync_wait=7"
	}
	askMySQL(listen[0], "CREATE DATABASE threepid CHARACTER SET utf8mb4")
	eventually(t, "the last member has the database", func() bool {
		return askMySQL(listen[galeraNodes-1], "SHOW DATABASES LIKE 'threepid'") == "threepid"
	})
	return urls
}

func askMySQL(port, query string) string {
	output, _ := exec.Command("mysql", "-h", "127.0.0.1", "-P", port, "-u", "root", "-BNe", query).CombinedOutput()
	return strings.TrimSpace(string(output))
}

// TestGalera sends requests of people in one country to three nodes with the default limits, each of
// which uses a different member of the cluster. If two transactions conflict, the cluster aborts one
// of them at COMMIT. No request may fail because of that.
func TestGalera(t *testing.T) {
	t.Parallel()
	urls := startGalera(t)
	g := newGateway(t, delay(10*time.Millisecond))
	c := &cluster{t: t, gateway: g}
	for _, db := range urls {
		c.nodes = append(c.nodes, start(t, "-db", db, "-sms", "webhook:"+g.url, "-limits", "default", "-trusted-proxies", "127.0.0.1"))
	}
	const people = 600
	failed := make(chan outcome, people)
	together(24, func(caller int) {
		for i := caller; i < people; i += 24 {
			failed <- c.verify(i)
		}
	})
	close(failed)
	errors := 0
	for got := range failed {
		if got.status != http.StatusOK {
			errors++
			if errors <= 5 {
				t.Errorf("%v", got)
			}
		}
	}
	t.Logf("%d verifications, %d errors", people, errors)
	if errors > 0 {
		for _, s := range c.nodes {
			t.Logf("%s", tail([]byte(s.stderr.String())))
		}
	}
	c.identicalRequests()
	c.submitElsewhere()
	for _, s := range c.nodes {
		g.expectDiscreet(t, s.stderr.String())
		s.stop()
	}
}

// verify requests a code for a new person on one node, and submits it on the next.
func (c *cluster) verify(turn int) outcome {
	p := newStranger()
	asked := p.request(c.url(turn), 1)
	messages := c.gateway.to(p.number())
	if asked.status != http.StatusOK || len(messages) != 1 {
		return asked
	}
	return p.submit(c.url(turn+1), asked.sid, messages[0].code())
}
