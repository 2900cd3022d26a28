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

// TestDiskFull limits the size of the server's files for a while, which is the closest to a
// full disk that works without root. What was acknowledged in that time must still be true, and
// afterwards the server must work again without a restart.
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
	freed := time.Now()
	time.Sleep(200 * time.Millisecond)
	end()
	l.expectFailuresUntil(freed)
	if len(l.failures) == 0 {
		t.Error("no request failed while the size of files was limited")
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

// TestDiskFullAtStart checks that the example exits with an error that names the file.
func TestDiskFullAtStart(t *testing.T) {
	t.Parallel()
	cmd := command(t.Context(), t, "-listen", "127.0.0.1:0", "-db", "full.db")
	cmd.Args = append([]string{"sh", "-c", `ulimit -f 4; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	output, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(output), "full.db") ||
		strings.Contains(string(output), "goroutine") {
		t.Errorf("exit: %v\n%s", err, output)
	}
}

// limitFiles sets the maximum size of the server's files, in bytes.
func (s *server) limitFiles(size uint64) {
	s.t.Helper()
	const fileSize = 1 // RLIMIT_FSIZE
	limit := syscall.Rlimit{Cur: size, Max: math.MaxUint64}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(s.cmd.Process.Pid), fileSize,
		uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		s.t.Fatal(errno)
	}
}
