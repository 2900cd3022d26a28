package main_test

import (
	"net"
	"sync"
	"testing"
)

// proxy stands between the example and a database server, for the network to
// fail at the touch of a button.
type proxy struct {
	addr   string
	server string

	mu     sync.Mutex
	change *sync.Cond
	down   bool // connections are reset, new ones too
	frozen bool // connections stay, and nothing gets through
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

// cut resets all connections, and from now on every new one. The port
// stays reserved in the meantime.
func (p *proxy) cut() { p.set(true, false) }

// freeze lets nothing through, as a machine that lost its power or a cable does.
func (p *proxy) freeze() { p.set(false, true) }

// restore is the end of that.
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

// carry carries bytes until either side hangs up, and then hangs up both.
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

// reset closes a connection without saying goodbye.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
