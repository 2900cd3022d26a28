package main_test

import (
	"net"
	"sync"
	"testing"
)

// proxy is a TCP proxy between the example and a database server, which simulates failures of the
// network.
type proxy struct {
	addr   string
	server string

	mu     sync.Mutex
	change *sync.Cond
	down   bool // existing and new connections are reset
	frozen bool // connections stay open, and no data passes
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

// cut resets all connections, and every new one until restore is called. The proxy keeps its port.
func (p *proxy) cut() { p.set(true, false) }

// freeze stops all data, as if the server had lost its power or its network cable.
func (p *proxy) freeze() { p.set(false, true) }

// restore ends the effects of cut and freeze.
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
	together(len(ends), func(i int) { p.carry(ends[1-i], ends[i]) })
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, client)
	delete(p.conns, server)
}

// carry copies bytes until either side closes its connection, and then closes both.
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
