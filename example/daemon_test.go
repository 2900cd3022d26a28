package main_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// freePorts returns loopback ports that nothing listens on at the moment.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	if n == 0 {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // after the recursive call, so that all ports differ
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return append(freePorts(t, n-1), port)
}

// owner is the user that a database server runs as, because database servers refuse to run as
// root.
type owner struct {
	t   *testing.T
	ids *syscall.Credential // nil means the user of this test
}

// newOwner returns the named user if this test runs as root, and otherwise the user of the test.
func newOwner(t *testing.T, name string) owner {
	t.Helper()
	if os.Getuid() != 0 {
		return owner{t: t}
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return owner{t: t, ids: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// dir creates a directory that belongs to the owner. It is not below t.TempDir, which other
// users cannot access.
func (o owner) dir() string {
	o.t.Helper()
	dir, err := os.MkdirTemp("", "threepid-server")
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if o.ids != nil {
		if err := os.Chown(dir, int(o.ids.Uid), int(o.ids.Gid)); err != nil {
			o.t.Fatal(err)
		}
	}
	return dir
}

func (o owner) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = os.TempDir()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: o.ids}
	return cmd
}

// run runs a program and waits until it ends.
func (o owner) run(name string, args ...string) {
	o.t.Helper()
	if output, err := o.command(name, args...).CombinedOutput(); err != nil {
		o.t.Fatalf("%s: %v\n%s", name, err, output)
	}
}

// start starts a server. At the end of the test, it stops the server with the given signal.
func (o owner) start(end os.Signal, name string, args ...string) *exec.Cmd {
	o.t.Helper()
	cmd := o.command(name, args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = cmd.Wait()
	}()
	o.t.Cleanup(func() {
		_ = cmd.Process.Signal(end)
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-gone
		}
		if o.t.Failed() {
			o.t.Logf("last output of %s:\n%s", name, tail(output.Bytes()))
		}
	})
	return cmd
}

func tail(output []byte) []byte {
	const maxTail = 2000
	return output[max(0, len(output)-maxTail):]
}

// eventually waits until a condition is true.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	const timeout = 60 * time.Second
	for end := time.Now().Add(timeout); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not true after %v: %s", timeout, what)
}
