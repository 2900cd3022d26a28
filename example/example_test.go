package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	example "example.com/threepid/example"
)

// asExample is an environment variable that makes the test binary run as the example.
const asExample = "THREEPID_TEST_AS_EXAMPLE"

func TestMain(m *testing.M) {
	if os.Getenv(asExample) != "" {
		example.Main()
		return
	}
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipped with -short: these tests start servers and browsers, which takes half a minute")
		return
	}
	// Most of these tests wait for leases and timeouts, so 32 of them run in parallel.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	m.Run()
}

// server is a running example.
type server struct {
	t      *testing.T
	cmd    *exec.Cmd
	url    string
	stdout *lines
	stderr *lines
	dir    string
}

// lines collects the output of a process.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// find waits until the output matches pattern, and returns the first submatch.
func (l *lines) find(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(l.String()); m != nil {
			return m[1]
		}
	}
	t.Fatalf("no match for %s in\n%s", pattern, l)
	return ""
}

// command returns a command that runs the example in a new directory.
func command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asExample+"=1")
	cmd.Dir = t.TempDir()
	return cmd
}

// start runs the example on a free port until the test ends.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	s := launch(t, args...)
	s.await()
	return s
}

// launch is like start, but does not wait until the example listens: await does. Limits are
// off unless args set -limits, because most tests send many requests from one address.
func launch(t *testing.T, args ...string) *server {
	t.Helper()
	return launchWith(t, nil, args...)
}

// launchWith is like launch, with additional environment variables.
func launchWith(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	s := &server{t: t, stdout: &lines{}, stderr: &lines{}}
	s.cmd = command(t.Context(), t, append([]string{"-listen", "127.0.0.1:0", "-limits", "off"}, args...)...)
	s.cmd.Env = append(s.cmd.Env, env...)
	s.cmd.Stdout, s.cmd.Stderr = s.stdout, s.stderr
	s.dir = s.cmd.Dir
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	return s
}

// await waits until the server listens.
func (s *server) await() {
	s.t.Helper()
	s.url = s.stdout.find(s.t, `Listening on (http://[a-z0-9.:]+)/`)
}

// kill sends SIGKILL and waits until the process has ended.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// stop sends SIGTERM and checks that the exit status is 0.
func (s *server) stop() {
	s.t.Helper()
	// Shutdown waits five seconds for a connection that was never used, and net/http's client
	// opens some that it does not need.
	web.CloseIdleConnections()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	late := time.AfterFunc(45*time.Second, func() { _ = s.cmd.Process.Kill() }) // draining takes at most 30
	defer late.Stop()
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("exit after SIGTERM: %v\n%s", err, s.stderr)
	}
}

func (s *server) post(url, body string) (int, map[string]any) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as the README's curl sends it
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var fields map[string]any
	if err := json.NewDecoder(res.Body).Decode(&fields); err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, fields
}

const body = `{"client_secret":"my-secret","country":"GB","phone_number":"07700900001","send_attempt":1}`

// flow requests and submits a code, stops the server, and checks that its log contains no secret.
func (s *server) flow(basePath string) {
	s.t.Helper()
	status, asked := s.post(s.url+basePath+"/account/3pid/msisdn/requestToken", body)
	if status != http.StatusOK {
		s.t.Fatalf("requestToken: %d %v", status, asked)
	}
	code := s.stdout.find(s.t, `(?m)\b([0-9]{6}) is your verification code`)
	submitURL, _ := asked["submit_url"].(string)
	if submitURL != s.url+basePath+"/account/3pid/msisdn/submitToken" {
		s.t.Errorf("submit_url %q", submitURL)
	}
	sid, _ := asked["sid"].(string)
	status, fields := s.post(submitURL, `{"client_secret":"my-secret","sid":"`+sid+`","token":"`+code+`"}`)
	if status != http.StatusOK || fields["success"] != true {
		s.t.Errorf("submitToken: %d %v", status, fields)
	}
	res, err := http.Get(submitURL + "?client_secret=my-secret&sid=" + sid + "&token=" + code)
	if err != nil {
		s.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		s.t.Errorf("GET submitToken: %d", res.StatusCode)
	}
	s.stop()
	scanner := bufio.NewScanner(strings.NewReader(s.stderr.String()))
	for scanner.Scan() {
		// A line starts with the time, whose digits may be those of the code.
		_, line, _ := strings.Cut(scanner.Text(), " ")
		for _, secret := range []string{code, "my-secret", "447700900001", "7700900001"} {
			if strings.Contains(line, secret) {
				s.t.Errorf("the log contains %q: %s", secret, line)
			}
		}
	}
}

func TestFlow(t *testing.T) {
	t.Parallel()
	s := start(t, "-limits", "default")
	// The printed command must be the request that flow sends.
	if !strings.Contains(s.stdout.String(), "curl "+s.url+"/_api/client/v3/account/3pid/msisdn/requestToken -d '"+body+"'") {
		t.Errorf("the output at start does not contain the command: %s", s.stdout)
	}
	s.flow("/_api/client/v3")
	if info, err := os.Stat(filepath.Join(s.dir, "threepid.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("database file: %v, %v", info, err)
	}
}

func TestSeveralBasePaths(t *testing.T) {
	t.Parallel()
	start(t, "-base-path", "/_api/client/v3, /_matrix/client/v3").flow("/_matrix/client/v3")
}

// TestDatabases runs the flow on each database.
func TestDatabases(t *testing.T) {
	t.Parallel()
	for name, open := range databases(4) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start(t, "-db", open(t), "-limits", "default").flow("/_api/client/v3")
		})
	}
}

func TestPublicURL(t *testing.T) {
	t.Parallel()
	s := start(t, "-public-url", "https://example.org")
	_, asked := s.post(s.url+"/_api/client/v3/register/msisdn/requestToken", body)
	if asked["submit_url"] != "https://example.org/_api/client/v3/account/3pid/msisdn/submitToken" {
		t.Errorf("submit_url does not start with -public-url: %v", asked)
	}
	s.stop()
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		got <- string(text)
	}))
	defer gateway.Close()
	s := start(t, "-sms", "webhook:"+gateway.URL+"/texts")
	if status, fields := s.post(s.url+"/_api/client/v3/account/3pid/msisdn/requestToken", body); status != http.StatusOK {
		t.Errorf("requestToken: %d %v", status, fields)
	}
	if text := <-got; !strings.Contains(text, `"to":"+447700900001","text":"`) {
		t.Errorf("the gateway received %s", text)
	}
	s.stop()
}

// TestDrain sends SIGTERM while an SMS is being sent. The request must still get its response.
func TestDrain(t *testing.T) {
	t.Parallel()
	asked, release := make(chan struct{}), make(chan struct{})
	gateway := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(asked)
		<-release
	}))
	defer gateway.Close()
	s := start(t, "-sms", "webhook:"+gateway.URL)
	responded := make(chan int, 1)
	go func() {
		status, _ := s.post(s.url+"/_api/client/v3/account/3pid/msisdn/requestToken", body)
		responded <- status
	}()
	<-asked
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	close(release)
	if status := <-responded; status != http.StatusOK {
		t.Errorf("the request in progress got status %d", status)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, s.stderr)
	}
}

// TestLimits checks the effect of -limits, -countries and -test-numbers.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		args   []string
		number string
		status int // of the request for the fifth SMS to that number
	}{
		{"default", []string{"-limits", "default"}, "07700900001", http.StatusTooManyRequests},
		{"off", nil, "07700900001", http.StatusOK},
		{"another country", []string{"-countries", "FR,DE"}, "07700900001", http.StatusForbidden},
		{"test number", []string{"-limits", "default", "-countries", "FR", "-test-numbers", "+447700900001=123456"}, "07700900001", http.StatusOK},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, row.args...)
			status := 0
			for i := range 5 {
				status, _ = s.post(s.url+"/_api/client/v3/account/3pid/msisdn/requestToken",
					fmt.Sprintf(`{"client_secret":"secret%d","country":"GB","phone_number":%q,"send_attempt":1}`, i, row.number))
			}
			if status != row.status {
				t.Errorf("the fifth request: status %d, want %d", status, row.status)
			}
		})
	}
}

// TestLimitsSurviveRestart reaches the limit of a number on one server. The limit must also apply
// on another server that shares the database, and after the first one was killed and restarted.
func TestLimitsSurviveRestart(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "threepid.db")
	ask := func(s *server, i int) int {
		status, _ := s.post(s.url+"/_api/client/v3/account/3pid/msisdn/requestToken",
			fmt.Sprintf(`{"client_secret":"secret%d","country":"GB","phone_number":"07700900001","send_attempt":1}`, i))
		return status
	}
	s := start(t, "-db", db, "-limits", "default")
	for i := range 4 {
		if status := ask(s, i); status != http.StatusOK {
			t.Errorf("SMS %d: status %d", i+1, status)
		}
	}
	other := start(t, "-db", db, "-limits", "default")
	if status := ask(other, 5); status != http.StatusTooManyRequests {
		t.Errorf("the other server: status %d, want 429", status)
	}
	s.kill()
	s = start(t, "-db", db, "-limits", "default")
	if status := ask(s, 6); status != http.StatusTooManyRequests {
		t.Errorf("after a restart: status %d, want 429", status)
	}
}

// TestOversizedRequests sends headers and queries that are too large. The server must refuse them and
// keep serving.
func TestOversizedRequests(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, change := range map[string]func(*http.Request){
		"a header": func(r *http.Request) { r.Header.Set("X-Long", strings.Repeat("x", 64<<10)) },
		"headers": func(r *http.Request) {
			for i := range 5000 {
				r.Header.Set(fmt.Sprint("X-", i), "xxxxxxxxxxxx")
			}
		},
		"a query": func(r *http.Request) { r.URL.RawQuery = "token=" + strings.Repeat("1", 64<<10) },
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/_api/client/v3/account/3pid/msisdn/submitToken", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			continue // the server closed the connection before everything was sent
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: status %d, want 431", name, res.StatusCode)
		}
	}
	if status, fields := s.post(s.url+"/_api/client/v3/account/3pid/msisdn/requestToken", body); status != http.StatusOK {
		t.Errorf("an ordinary request afterwards: %d %v", status, fields)
	}
}

// TestBadStart checks that the example exits with an error for each mistake, that the error names the
// mistake, and that it contains no password.
func TestBadStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("this is no database\n"), 500), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		args []string
		says string
	}{
		{"directory missing", []string{"-db", filepath.Join(dir, "missing", "x.db")}, "x.db"},
		{"a directory", []string{"-db", dir}, dir},
		{"not a database", []string{"-db", garbage}, "garbage.db"},
		{"unknown database", []string{"-db", "oracle://localhost/x"}, "oracle"},
		{"no server", []string{"-db", "postgres://me:hunter2@127.0.0.1:1/x"}, "postgres"},
		{"no server", []string{"-db", "mysql://me:hunter2@127.0.0.1:1/x"}, "mysql"},
		{"bad URL", []string{"-db", "postgres://me:hunter2@127.0.0.1:port/x"}, "postgres"},
		{"bad URL", []string{"-db", "mysql://me:hunter2@127.0.0.1:port/x"}, "mysql"},
		{"unknown provider", []string{"-sms", "pigeon"}, "pigeon"},
		{"no URL", []string{"-sms", "webhook:nowhere"}, "-sms"},
		{"another scheme", []string{"-sms", "webhook:ftp://example.org"}, "-sms"},
		{"no base path", []string{"-base-path", ","}, "-base-path"},
		{"bad base path", []string{"-base-path", "api"}, "base path"},
		{"bad limits", []string{"-limits", "few"}, "-limits"},
		{"bad guard", []string{"-guard", "dog"}, "-guard"},
		{"bad country", []string{"-countries", "UK"}, "UK"},
		{"bad test number", []string{"-test-numbers", "07700900001=123456"}, "TestNumbers"},
		{"bad code", []string{"-test-numbers", "+447700900001"}, "TestNumbers"},
		{"bad proxy", []string{"-trusted-proxies", "nobody"}, "-trusted-proxies"},
		{"bad public URL", []string{"-public-url", "example.org"}, "PublicURL"},
		{"bad address", []string{"-listen", "127.0.0.1:99999"}, "-listen"},
		{"unknown flag", []string{"-colour", "red"}, "colour"},
		{"stray argument", []string{"serve"}, "serve"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"-listen", "127.0.0.1:0"}, row.args...)
			if row.args[0] == "-listen" {
				args = row.args
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			output, err := command(ctx, t, args...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() <= 0 {
				t.Errorf("exit: %v\n%s", err, output)
			}
			if !strings.Contains(string(output), row.says) || strings.Contains(string(output), "hunter2") ||
				strings.Contains(string(output), "panic") {
				t.Errorf("the output does not contain %q, or it contains a password or a panic:\n%s", row.says, output)
			}
		})
	}
}

// TestUnservedPaths requests paths of the Matrix specification that the plugin does not serve,
// and a misspelled one. The 404 responses must be JSON with CORS headers, so that web clients on
// another site can read them.
func TestUnservedPaths(t *testing.T) {
	t.Parallel()
	s := start(t, "-base-path", "/_matrix/client/v3,/_matrix/client/r0")
	for _, path := range []string{
		"/_matrix/client/v3/account/3pid/bind",
		"/_matrix/client/r0/account/3pid/msisdn/requestToken/",
		"/_matrix/client/v3/register/email/requestToken",
	} {
		for method, status := range map[string]int{http.MethodPost: http.StatusNotFound, http.MethodGet: http.StatusNotFound, http.MethodOptions: http.StatusNoContent} {
			req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var body struct{ ErrCode string }
			_ = json.NewDecoder(res.Body).Decode(&body)
			_ = res.Body.Close()
			if res.StatusCode != status || res.Header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s %s: %d, CORS %q", method, path, res.StatusCode, res.Header.Get("Access-Control-Allow-Origin"))
			}
			if status == http.StatusNotFound && (body.ErrCode != "M_UNRECOGNIZED" || res.Header.Get("Content-Type") != "application/json") {
				t.Errorf("%s %s: errcode %q, Content-Type %q", method, path, body.ErrCode, res.Header.Get("Content-Type"))
			}
		}
	}
	res, err := http.Get(s.url + "/nothing-here")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusNotFound || got != "text/plain" {
		t.Errorf("a path outside the base paths: %d %s", res.StatusCode, got)
	}
}
