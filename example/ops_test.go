package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startOps runs the example with -ops-listen, and returns the URL of that listener.
func startOps(t *testing.T, args ...string) (s *server, ops string) {
	t.Helper()
	s = start(t, append([]string{"-ops-listen", "127.0.0.1:0"}, args...)...)
	return s, s.stdout.find(t, `health for operators: (http://[a-z0-9.:]+)`)
}

func get(t *testing.T, url, host, authorization string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if host != "" {
		req.Host = host
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(content)
}

// TestMetrics checks that a validation is counted, and that a scrape contains no secret.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s, ops := startOps(t, "-limits", "default")
	const base = "/_api/client/v3/account/3pid/msisdn/"
	_, fields := s.post(s.url+base+"requestToken", body)
	code := s.stdout.find(t, `(\d{6}) is your`)
	if status, fields := s.post(s.url+base+"submitToken", `{"client_secret":"my-secret","sid":"`+fields["sid"].(string)+`","token":"`+code+`"}`); status != http.StatusOK {
		t.Fatalf("submitToken: %d %v", status, fields)
	}
	s.post(s.url+base+"requestToken", `{`)
	want := []string{
		`threepid_sms_total{country="GB",outcome="accepted",provider="console"} 1`,
		`threepid_validations_total{country="GB",purpose="add"} 1`,
		`threepid_time_to_validate_seconds_count 1`,
		`threepid_refusals_total{reason="bad input"} 1`,
		`threepid_requests_total{endpoint="/account/3pid/msisdn/requestToken",status="200"} 1`,
		`threepid_blocks{kind="country"} 0`,
		`go_goroutines`, `process_resident_memory_bytes`,
	}
	var metrics string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var status int
		status, metrics = get(t, ops+"/metrics", "", "")
		missing := ""
		for _, line := range want {
			if !strings.Contains(metrics, line) {
				missing = line
			}
		}
		if status == http.StatusOK && missing == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("status %d, or %q is missing in\n%s", status, missing, metrics)
		}
	}
	for _, secret := range []string{"my-secret", "7700900001", fields["sid"].(string)} {
		if strings.Contains(metrics, secret) {
			t.Errorf("the metrics contain %q", secret)
		}
	}
	if regexp.MustCompile(`\b` + code + `\b`).MatchString(metrics) {
		t.Error("the metrics contain the code")
	}
	if status, _ := get(t, s.url+"/metrics", "", ""); status != http.StatusNotFound {
		t.Errorf("the public listener serves /metrics: %d", status)
	}
}

// TestOpsAccess checks which requests the listener for operators serves, and which it refuses.
func TestOpsAccess(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, ops := startOps(t, "-ops-token", "first", "-ops-token", "@"+file)
	for name, row := range map[string]struct {
		path, host, authorization string
		status                    int
	}{
		"metrics without a token":    {"/metrics", "", "", http.StatusUnauthorized},
		"with a wrong token":         {"/metrics", "", "Bearer wrong", http.StatusUnauthorized},
		"with another scheme":        {"/metrics", "", "first", http.StatusUnauthorized},
		"with the token":             {"/metrics", "", "Bearer first", http.StatusOK},
		"with a token from a file":   {"/metrics", "", "Bearer from-a-file", http.StatusOK},
		"health":                     {"/healthz", "", "", http.StatusOK},
		"readiness":                  {"/readyz", "", "", http.StatusOK},
		"localhost":                  {"/healthz", "localhost:8009", "", http.StatusOK},
		"another loopback address":   {"/healthz", "127.0.0.2", "", http.StatusOK},
		"over IPv6":                  {"/healthz", "[::1]:8009", "", http.StatusOK},
		"another host name":          {"/metrics", "evil.example", "Bearer first", http.StatusMisdirectedRequest},
		"a name like an address":     {"/metrics", "127.0.0.1.evil.example", "Bearer first", http.StatusMisdirectedRequest},
		"another machine's address":  {"/healthz", "203.0.113.7", "", http.StatusMisdirectedRequest},
		"a path that does not exist": {"/nothing", "", "Bearer first", http.StatusNotFound},
	} {
		if status, body := get(t, ops+row.path, row.host, row.authorization); status != row.status {
			t.Errorf("%s: %d %s, want %d", name, status, body, row.status)
		}
	}
}

// TestOpsOnAllAddresses listens on all addresses of the machine, and checks which Host headers are
// accepted when a client, such as a Prometheus on another machine, connects to one of them.
func TestOpsOnAllAddresses(t *testing.T) {
	t.Parallel()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	own := ""
	for _, a := range addresses {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			own = ip.IP.String()
		}
	}
	if own == "" {
		t.Skip("this machine has only loopback addresses")
	}
	s, ops := startOps(t, "-ops-listen", "0.0.0.0:0")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(ops, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + net.JoinHostPort(own, port)
	for host, want := range map[string]int{
		own: http.StatusOK, net.JoinHostPort(own, port): http.StatusOK, "localhost": http.StatusOK,
		"0.0.0.0": http.StatusMisdirectedRequest, "203.0.113.7": http.StatusMisdirectedRequest, "evil.example": http.StatusMisdirectedRequest,
	} {
		if status, body := get(t, base+"/metrics", host, ""); status != want {
			t.Errorf("Host %s: %d %s, want %d", host, status, body, want)
		}
	}
	if !strings.Contains(s.stderr.String(), "there is no -ops-token") {
		t.Error("the log does not warn that anyone can read the metrics")
	}
}

// TestScrapeUnderLoad scrapes while requests arrive. Each scrape must succeed, counters must not
// decrease, and in the end all requests must be counted.
func TestScrapeUnderLoad(t *testing.T) {
	t.Parallel()
	s, ops := startOps(t)
	const callers, each = 16, 40
	requests := regexp.MustCompile(`threepid_requests_total\{endpoint="/account/3pid/msisdn/requestToken",status="200"\} (\d+)`)
	scrape := func() (n int) {
		status, metrics := get(t, ops+"/metrics", "", "")
		if status != http.StatusOK || !strings.Contains(metrics, "\nthreepid_events_dropped_total 0\n") {
			t.Fatalf("scrape: %d %s", status, metrics)
		}
		if m := requests.FindStringSubmatch(metrics); m != nil {
			n, _ = strconv.Atoi(m[1])
		}
		return n
	}
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range each {
				s.post(s.url+"/_api/client/v3/account/3pid/msisdn/requestToken", strings.Replace(body, "my-secret", fmt.Sprintf("s-%d-%d", i, j), 1))
			}
		})
	}
	before := 0
	for end := time.Now().Add(2 * time.Minute); before < callers*each; {
		n := scrape()
		if n < before || time.Now().After(end) {
			t.Fatalf("the counter was %d and is now %d, of %d requests", before, n, callers*each)
		}
		before = n
	}
	wg.Wait()
	if n := scrape(); n != callers*each {
		t.Errorf("%d requests were counted, want %d", n, callers*each)
	}
}

// TestNotReadyDuringShutdown sends SIGTERM while an SMS is being sent. Until the server has ended,
// /readyz must report that it is shutting down.
func TestNotReadyDuringShutdown(t *testing.T) {
	t.Parallel()
	received, resume := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(resume) })
	gateway := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(received)
		<-resume
	}))
	defer gateway.Close()
	defer release()
	s, ops := startOps(t, "-sms", "webhook:"+gateway.URL)
	sent := make(chan error, 1)
	go func() {
		res, err := http.Post(s.url+"/_api/client/v3/account/3pid/msisdn/requestToken", "application/json", strings.NewReader(body))
		if err == nil {
			err = res.Body.Close()
		}
		sent <- err
	}()
	<-received
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		status, body := get(t, ops+"/readyz", "", "")
		if status == http.StatusServiceUnavailable && strings.Contains(body, "shutting down") {
			break
		}
		if status != http.StatusOK || time.Now().After(end) {
			t.Fatalf("readyz: %d %s", status, body)
		}
	}
	for _, path := range []string{"/healthz", "/metrics"} {
		if status, body := get(t, ops+path, "", ""); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	release()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("exit: %v\n%s", err, s.stderr)
	}
}

// TestNotReady checks that /readyz fails if the database cannot be reached.
func TestNotReady(t *testing.T) {
	t.Parallel()
	for name, open := range servers(10) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, db := behindProxy(t, open(t))
			s, ops := startOps(t, "-db", db)
			if status, body := get(t, ops+"/readyz", "", ""); status != http.StatusOK {
				t.Fatalf("readyz: %d %s", status, body)
			}
			p.cut()
			if status, body := get(t, ops+"/readyz", "", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "database") {
				t.Errorf("readyz without a database: %d %s", status, body)
			}
			if status, _ := get(t, ops+"/healthz", "", ""); status != http.StatusOK {
				t.Errorf("healthz without a database: %d", status)
			}
			if !strings.Contains(s.stderr.String(), "not ready") {
				t.Error("the log does not contain that the server is not ready")
			}
		})
	}
}
