package main_test

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// TestDiskFull lets no file of the server grow any further for a while, which is
// as near to a full disk as one gets without being root. What is acknowledged
// during that time holds, and when there is room again all works, without a restart.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "threepid.db")
	g := newGateway(t, delay(2*time.Millisecond))
	s := start(t, "-db", db, "-sms", "webhook:"+g.url)
	l := &ledger{t: t, gateway: g, lenient: true}
	end := background(func(stop <-chan struct{}) { l.requestUntilOK(s.url, 8, stop) })
	time.Sleep(100 * time.Millisecond)
	info, err := os.Stat(db + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	s.limitFiles(uint64(info.Size()) + 64<<10)
	s.waitForLog("request failed")
	time.Sleep(300 * time.Millisecond)
	s.limitFiles(math.MaxUint64)
	room := time.Now()
	time.Sleep(200 * time.Millisecond)
	end()
	l.expectFailuresUntil(room)
	if len(l.failures) == 0 {
		t.Error("the disk was not full")
	}
	l.lenient = false
	l.retryAcknowledged(s.url)
	l.submitAll(s.url)
	l.audit()
	s.stop()
	s = start(t, "-db", db, "-sms", "webhook:"+g.url)
	l.retryAcknowledged(s.url)
	l.submitAll(s.url)
	l.audit()
	s.stop()
}

// TestDiskFullAtStart ends the start with a sentence.
func TestDiskFullAtStart(t *testing.T) {
	t.Parallel()
	cmd := command(t.Context(), t, "-listen", "127.0.0.1:0", "-db", "full.db")
	cmd.Args = append([]string{"sh", "-c", `ulimit -f 4; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	output, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(output), "full.db") ||
		strings.Contains(string(output), "goroutine") {
		t.Errorf("ended with %v\n%s", err, output)
	}
}

// limitFiles sets how long the server's files may become, in bytes.
func (s *server) limitFiles(most uint64) {
	s.t.Helper()
	const fileSize = 1 // RLIMIT_FSIZE
	limit := syscall.Rlimit{Cur: most, Max: math.MaxUint64}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(s.cmd.Process.Pid), fileSize,
		uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		s.t.Fatal(errno)
	}
}
