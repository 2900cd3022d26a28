package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is a child process under load.
type server struct {
	cmd  *exec.Cmd
	addr string
}

// startExample builds the example and starts it. Its log is written, but discarded.
func startExample(ctx context.Context, dir string, args ...string) (*server, error) {
	program := filepath.Join(dir, "example")
	if _, err := os.Stat(program); err != nil {
		build := exec.CommandContext(ctx, "go", "build", "-o", program, "example.com/threepid/example")
		if output, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the example: %w\n%s", err, output)
		}
	}
	return start(func(addr string) *exec.Cmd {
		return exec.CommandContext(ctx, program, append([]string{"-listen", addr}, args...)...)
	})
}

// startSelf starts this program as a server over a SQLite file: see serve.
func startSelf(ctx context.Context, db string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(func(addr string) *exec.Cmd {
		return exec.CommandContext(ctx, self, "-serve", "-listen", addr, "-db", db)
	})
}

func start(command func(addr string) *exec.Cmd) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: command(addr), addr: addr}
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = 30 * time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 1000 {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			return s, conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.Join(fmt.Errorf("%s does not listen", s.cmd), s.stop())
}

// stop ends the process and waits for it.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	return s.cmd.Wait()
}

// freeAddr returns a loopback address that nothing listens on at the moment.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// memory returns the lines about the process's memory in /proc, or nothing on a system without
// /proc.
func (s *server) memory() string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	var found []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "VmHWM":
			found = append(found, "most "+strings.TrimSpace(value))
		case "VmRSS":
			found = append(found, "now "+strings.TrimSpace(value))
		case "RssAnon":
			found = append(found, "of it anonymous "+strings.TrimSpace(value))
		}
	}
	return strings.Join(found, ", ")
}
