package history_test

import (
	"net"
	"sync"
	"testing"
)

// proxy is the network between a node and a database server. It fails on demand.
type proxy struct {
	addr   string
	server string

	mu     sync.Mutex
	change *sync.Cond
	down   bool // connections are reset, including new ones
	frozen bool // connections remain open, but nothing gets through
	conns  map[net.Conn]bool
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: listener.Addr().String(), server: server, conns: map[net.Conn]bool{}}
	p.change = sync.NewCond(&p.mu)
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut()
	})
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

// cut resets all connections, and from now on every new one. The port stays open.
func (p *proxy) cut() { p.set(true, false) }

// freeze blocks all traffic, like a machine that lost its power.
func (p *proxy) freeze() { p.set(false, true) }

// restore ends cut and freeze.
func (p *proxy) restore() { p.set(false, false) }

func (p *proxy) set(down, frozen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.frozen = down, frozen
	if down {
		for conn := range p.conns {
			reset(conn)
		}
	}
	p.change.Broadcast()
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		reset(client)
		return
	}
	ends := []net.Conn{client, server}
	p.mu.Lock()
	for _, conn := range ends {
		if p.down {
			reset(conn)
		}
		p.conns[conn] = true
	}
	p.mu.Unlock()
	var both sync.WaitGroup
	for i := range ends {
		both.Go(func() { p.carry(ends[1-i], ends[i]) })
	}
	both.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

// carry copies bytes until either side closes, and then closes both.
func (p *proxy) carry(to, from net.Conn) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for p.frozen {
			p.change.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// reset closes a connection with a TCP reset.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
