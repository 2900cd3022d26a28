package history_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cluster is several nodes over one database, with clocks that differ.
type cluster struct {
	t        *testing.T
	history  *history
	provider *provider
	database database
	server   string     // the address of the database server; empty: there is none
	memory   bothStores // used instead of a database

	mix     mix
	numbers map[int]*number

	mu    sync.Mutex
	nodes []*node
}

// node is a node of a cluster. A node that is started again is a new one.
type node struct {
	id     int
	offset time.Duration
	url    string
	proxy  *proxy    // to the database server
	cmd    *exec.Cmd // nil: the node is in this process
	dead   bool
}

func newCluster(t *testing.T, d database, server string) *cluster {
	t.Helper()
	c := &cluster{t: t, history: newHistory(), database: d, server: server, mix: anyCall(), numbers: map[int]*number{}}
	c.history.offsets = func(id int) time.Duration { return c.node(id).offset }
	c.provider = startProvider(t, c.history)
	return c
}

// newMemoryCluster starts all nodes over one store.
func newMemoryCluster(t *testing.T, st bothStores, offsets ...time.Duration) *cluster {
	t.Helper()
	c := newCluster(t, database{}, "")
	c.memory = st
	for _, offset := range offsets {
		n, settings := c.add(offset)
		c.serve(n, settings, st)
	}
	return c
}

// open opens the store for the test itself, without faults.
func (c *cluster) open() (bothStores, func(), error) {
	if c.memory != nil {
		return c.memory, func() {}, nil
	}
	return c.database.open(context.Background())
}

func (c *cluster) node(id int) *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[id]
}

// alive returns the nodes that were not killed.
func (c *cluster) alive() []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var nodes []*node
	for _, n := range c.nodes {
		if !n.dead && n.url != "" {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// add creates a node that is not started yet, and its settings.
func (c *cluster) add(offset time.Duration) (*node, nodeSettings) {
	n := &node{offset: offset}
	settings := nodeSettings{Database: c.database, Offset: offset, Provider: c.provider.url}
	if c.server != "" {
		n.proxy = newProxy(c.t, c.server)
		settings.Database = c.database.through(n.proxy.addr)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n.id = len(c.nodes)
	settings.ID = n.id
	c.nodes = append(c.nodes, n)
	return n, settings
}

// startHere starts a node in this process, with a store of its own.
func (c *cluster) startHere(offset time.Duration) *node {
	c.t.Helper()
	n, settings := c.add(offset)
	st, closeStore, err := settings.Database.open(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(closeStore)
	c.serve(n, settings, st)
	return n
}

func (c *cluster) serve(n *node, settings nodeSettings, st bothStores) {
	c.t.Helper()
	handler, closePlugin, err := newNode(st, settings)
	if err != nil {
		c.t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	c.t.Cleanup(func() {
		server.Close()
		closePlugin()
	})
	c.publish(n, server.URL)
}

func (c *cluster) publish(n *node, url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n.url = url
}

// startProcess starts a node in a process of its own. It may be called from any goroutine: if the
// node does not start, the test fails, and the node gets no calls.
func (c *cluster) startProcess(offset time.Duration) *node {
	n, settings := c.add(offset)
	if err := c.launch(n, settings); err != nil {
		c.t.Errorf("node %d does not start: %v", n.id, err)
	}
	return n
}

func (c *cluster) launch(n *node, settings nodeSettings) error {
	env, err := json.Marshal(settings)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	n.cmd = exec.Command(self)
	n.cmd.Env = append(os.Environ(), asNode+"="+string(env))
	n.cmd.Stderr = os.Stderr
	stdin, err := n.cmd.StdinPipe() // the node exits when it is closed
	if err != nil {
		return err
	}
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	c.t.Cleanup(func() {
		_ = stdin.Close()
		c.kill(n)
	})
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return err
	}
	c.publish(n, strings.TrimSpace(url))
	return nil
}

// kill ends a node with SIGKILL, and returns when it has ended.
func (c *cluster) kill(n *node) {
	c.mu.Lock()
	dead := n.dead
	n.dead = true
	c.mu.Unlock()
	if dead {
		return
	}
	c.history.fault(n.id, "killed") // this fault has no end
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

// stop stops a node's process for some time.
func (c *cluster) stop(n *node, d time.Duration) {
	defer c.history.fault(n.id, "stopped")()
	_ = n.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(d)
	_ = n.cmd.Process.Signal(syscall.SIGCONT)
}

// cut resets a node's connections to the database, old and new ones, for some time.
func (c *cluster) cut(n *node, d time.Duration) {
	defer c.history.fault(n.id, "cut")()
	n.proxy.cut()
	time.Sleep(d)
	n.proxy.restore()
}

// freeze blocks all traffic between a node and the database for some time.
func (c *cluster) freeze(n *node, d time.Duration) {
	defer c.history.fault(n.id, "frozen")()
	n.proxy.freeze()
	time.Sleep(d)
	n.proxy.restore()
}
