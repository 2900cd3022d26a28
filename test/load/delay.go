package main

import (
	"io"
	"net"
	"sync"
	"time"
)

// delay is a TCP proxy that simulates a distant database: each byte arrives half a round trip after
// it was sent, in both directions.
type delay struct {
	listener net.Listener
	addr     string
	to       string
	oneWay   time.Duration
}

func startDelay(to string, roundTrip time.Duration) (*delay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d := &delay{listener: listener, addr: listener.Addr().String(), to: to, oneWay: roundTrip / 2}
	go d.accept()
	return d, nil
}

func (d *delay) accept() {
	for {
		near, err := d.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", d.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		var closing sync.Once
		end := func() { closing.Do(func() { _, _ = near.Close(), far.Close() }) }
		go d.carry(near, far, end)
		go d.carry(far, near, end)
	}
}

// chunk is data that was read together, and when it is to be forwarded.
type chunk struct {
	data []byte
	due  time.Time
}

func (d *delay) carry(from, to net.Conn, end func()) {
	const room = 1024
	chunks := make(chan chunk, room)
	go func() {
		defer end()
		for c := range chunks {
			time.Sleep(time.Until(c.due))
			if _, err := to.Write(c.data); err != nil {
				_, _ = io.Copy(io.Discard, from)
				return
			}
		}
	}()
	defer close(chunks)
	for {
		buffer := make([]byte, 16<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			chunks <- chunk{buffer[:n], time.Now().Add(d.oneWay)}
		}
		if err != nil {
			return
		}
	}
}

func (d *delay) stop() error { return d.listener.Close() }
