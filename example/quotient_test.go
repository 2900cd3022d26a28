package main_test

import (
	"bufio"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/memstore"
)

// TestQuotient runs the program in e2e/quotient, which uses libQuotient, the library of
// NeoChat and Quaternion. Version 0.6 of libQuotient uses paths below /_matrix/client/r0.
func TestQuotient(t *testing.T) {
	t.Parallel()
	program := buildQuotient(t)
	texts, seen := smstest.New(), &requests{}
	server := serveQuotient(t, texts, seen)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := runQuotient(ctx, t, exec.CommandContext(ctx, program, server.URL, "alices-token"), texts)
	const want = `request for an invalid number: error 106 M_INVALID_PARAM: phone_number is not a phone number that can be dialled from GB
request: ok
resend: rate limited
resend: ok
add too early: error 106 M_THREEPID_AUTH_FAILED: No confirmed phone number belongs to that sid and client_secret. Ask for a code to add the number, submit it, and try again.
submit a wrong code: error 106 M_TOKEN_INCORRECT: That code is not right. Check the text message. 4 tries left.
code
submit: ok
add: ok
list: ok
  msisdn 447700900001
request for a number in use: error 106 M_THREEPID_IN_USE: MSISDN is already in use
bind: error 105 M_UNRECOGNIZED: This server does not serve this path
delete: ok
list: ok
legacy request: ok
legacy add too early: error 104 M_THREEPID_AUTH_FAILED: No confirmed phone number belongs to that sid and client_secret. Ask for a code to add the number, submit it, and try again.
code
legacy submit: ok
legacy add: ok
list: ok
  msisdn 447700900002
`
	if got != want {
		t.Errorf("the program printed\n%s\nwant\n%s", got, want)
	}
	if n := texts.Count(); n != 3 {
		t.Errorf("%d SMS were sent, want 3", n)
	}
	seen.expectNoFlood(t)
}

// serveQuotient starts a server for the program, with a limit that delays the second SMS.
func serveQuotient(t *testing.T, texts *smstest.Recorder, seen *requests) *httptest.Server {
	t.Helper()
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.RedirectTrailingSlash = false
	router.Use(seen.count)
	plugin, err := threepid.Register(router, memstore.New(), texts, threepid.Options{
		BasePath: "/_matrix/client/r0", AllowLegacyClients: true, Logger: slog.New(slog.DiscardHandler),
		Limits: limits.Limits{PerNumberAndClient: []limits.Limit{{Burst: 1, Every: 12 * time.Second}}},
		Authenticate: func(c *gin.Context) (string, error) {
			if c.GetHeader("Authorization") != "Bearer alices-token" {
				return "", threepid.ErrMissingToken
			}
			return "alice", nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	router.NoRoute(plugin.NotFound)
	server := httptest.NewServer(router)
	t.Cleanup(func() {
		server.Close()
		_ = plugin.Close()
	})
	return server
}

// buildQuotient compiles the program. It skips the test if the library is missing.
func buildQuotient(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("compiling takes some seconds")
	}
	compiler := needProgram(t, "THREEPID_TEST_CXX", "apt-get install g++", "g++", "clang++")
	pkgConfig := needProgram(t, "THREEPID_TEST_PKG_CONFIG", "apt-get install pkg-config", "pkg-config")
	const library = "Quotient"
	include, err := exec.CommandContext(t.Context(), pkgConfig, "--variable=includedir", library).Output()
	flags, err2 := exec.CommandContext(t.Context(), pkgConfig, "--cflags", "--libs", library, "Qt5Core", "Qt5Network").Output()
	if err != nil || err2 != nil {
		t.Skip("libQuotient is missing: apt-get install libquotient-dev qtbase5-dev")
	}
	program := filepath.Join(t.TempDir(), "quotient")
	source := filepath.Join("e2e", "quotient", "main.cpp")
	args := []string{"-std=c++17", "-fPIC", "-w", "-o", program, source, "-I" + filepath.Join(strings.TrimSpace(string(include)), library)}
	output, err := exec.CommandContext(t.Context(), compiler, append(args, strings.Fields(string(flags))...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("cannot compile %s: %v\n%s", source, err, output)
	}
	return program
}

// runQuotient runs the program, writes the codes that it needs to its standard input, and
// returns its output.
func runQuotient(ctx context.Context, t *testing.T, cmd *exec.Cmd, texts *smstest.Recorder) string {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	for out := bufio.NewScanner(stdout); out.Scan(); {
		printed.WriteString(out.Text() + "\n")
		if text, ok := texts.Last(); out.Text() == "code" && ok {
			_, _ = stdin.Write([]byte(smstest.Token(text) + "\n"))
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program failed: %v, %v\n%s", err, ctx.Err(), log)
	}
	return printed.String()
}

// requests counts the requests to a server, and those that it refused with 429.
type requests struct{ all, refused atomic.Int64 }

func (r *requests) count(c *gin.Context) {
	c.Next()
	r.all.Add(1)
	if c.Writer.Status() == http.StatusTooManyRequests {
		r.refused.Add(1)
	}
}

// expectNoFlood checks that the library waited as long as retry_after_ms says. Its timers
// may fire a few percent too early, so one early retry is allowed. If the library cannot
// read retry_after_ms, version 0.6 retries every five seconds, and version 0.9 at once, some
// hundred times a second.
func (r *requests) expectNoFlood(t *testing.T) {
	t.Helper()
	const jobs, retries = 17, 2
	all, refused := r.all.Load(), r.refused.Load()
	if refused < 1 || refused > retries || all != jobs+refused {
		t.Errorf("%d requests, %d of them refused with 429; want %d, and 1 to %d refused", all, refused, jobs+refused, retries)
	}
}
