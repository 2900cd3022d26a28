package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// startNginx runs a real nginx with deploy/nginx.conf in front of a homeserver and threepid, and
// returns its URL.
func startNginx(t *testing.T, homeserver, threepid string) string {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		if nginx, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Skip("nginx is missing: apt-get install nginx-light")
		}
	}
	locations, err := os.ReadFile(filepath.Join("deploy", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	dir, address := t.TempDir(), "127.0.0.1:"+freePorts(t, 1)[0]
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers may run as another user
		t.Fatal(err)
	}
	conf := fmt.Sprintf(`
daemon off; pid %[1]s/pid; error_log %[1]s/error.log; worker_processes 1;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	server {
		listen %[2]s;
		%[3]s
		location / { proxy_pass %[4]s; }
	}
}`, dir, address, strings.ReplaceAll(string(locations), "http://127.0.0.1:8018", threepid), homeserver)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, nginx, "-p", dir, "-c", file)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	output := &lines{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		res, err := http.Get("http://" + address + "/ready")
		if err == nil {
			_ = res.Body.Close()
			return "http://" + address
		}
		if time.Now().After(end) {
			t.Fatalf("nginx does not listen: %v\n%s", err, output)
		}
	}
}

// homeserverDatabase creates Synapse's table user_threepids, in which Alice has a number, and returns
// the value of -accounts for it.
func homeserverDatabase(t *testing.T) string {
	t.Helper()
	statements := []string{
		"CREATE TABLE user_threepids (user_id TEXT NOT NULL, medium TEXT NOT NULL, address TEXT NOT NULL, validated_at BIGINT NOT NULL, added_at BIGINT NOT NULL)",
		"CREATE UNIQUE INDEX medium_address ON user_threepids (medium, address)",
		"INSERT INTO user_threepids VALUES ('@alice:example.org', 'msisdn', '447700900003', 1, 1)",
	}
	dsn := os.Getenv("THREEPID_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("no PostgreSQL: set THREEPID_TEST_POSTGRES, see CONTRIBUTING.md")
	}
	db, err := gorm.Open(postgres.Open(dsn), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		t.Fatal(err)
	}
	schema := fmt.Sprintf("threepid_synapse_%d", time.Now().UnixNano())
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxOpenConns(1)
	t.Cleanup(func() {
		db.Exec("DROP SCHEMA " + schema + " CASCADE")
		_ = pool.Close()
	})
	for _, statement := range append([]string{"CREATE SCHEMA " + schema, "SET search_path TO " + schema}, statements...) {
		if err := db.Exec(statement).Error; err != nil {
			t.Fatal(err)
		}
	}
	separator := "?"
	if strings.Contains(dsn, "?") {
		separator = "&"
	}
	return "synapse:" + dsn + separator + "search_path=" + schema
}

// response is the status and the header of an HTTP response.
type response struct {
	status int
	header http.Header
}

// TestSynapseBehindNginx requests and submits codes as a client through a real nginx, which must pass
// these requests to threepid and all others to the homeserver. The homeserver requests only whether a
// number is validated.
func TestSynapseBehindNginx(t *testing.T) {
	t.Parallel()
	reached := make(chan string, 100)
	homeserver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached <- r.URL.Path
		_, _ = io.WriteString(w, `{"served_by":"synapse"}`)
	}))
	t.Cleanup(homeserver.Close)
	s, hs := startIdentity(t, "-limits", "default", "-base-path", "/_matrix/client/v3,/_matrix/client/r0",
		"-public-url", "https://matrix.example.org", "-trusted-proxies", "127.0.0.1", "-accounts", homeserverDatabase(t))
	front := startNginx(t, homeserver.URL, s.url)
	<-reached // the request of startNginx

	post := func(path, language, body string) (response, map[string]any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, front+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Language", language)
		req.Header.Set("X-Forwarded-For", "203.0.113.7") // forged by the client; nginx must replace it
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		var fields map[string]any
		if err := json.NewDecoder(res.Body).Decode(&fields); err != nil {
			t.Fatalf("%s: HTTP %d: %v", path, res.StatusCode, err)
		}
		return response{res.StatusCode, res.Header}, fields
	}
	request := func(secret, number string, attempt int) string {
		return fmt.Sprintf(`{"client_secret":%q,"country":"GB","phone_number":%q,"send_attempt":%d}`, secret, number, attempt)
	}
	const requestToken = "/_matrix/client/v3/account/3pid/msisdn/requestToken"
	res, fields := post(requestToken, "de", request("my-secret", "07700900001", 1))
	if res.status != http.StatusOK || fields["submit_url"] != "https://matrix.example.org/_matrix/client/v3/account/3pid/msisdn/submitToken" {
		t.Fatalf("requestToken: %d %v", res.status, fields)
	}
	code := s.stdout.find(t, `(\d{6}) ist dein`) // in the client's language
	sid := fields["sid"].(string)
	submission := func(code string) string {
		return fmt.Sprintf(`{"sid":%q,"client_secret":"my-secret","token":%q}`, sid, code)
	}
	const submitToken = "/_matrix/client/v3/account/3pid/msisdn/submitToken"
	if _, fields := post(submitToken, "", submission("nothing")); fields["errcode"] != "M_TOKEN_INCORRECT" {
		t.Errorf("a wrong code: %v", fields)
	}
	if res, fields := post(submitToken, "", submission(code)); res.status != http.StatusOK {
		t.Errorf("submitToken: %d %v", res.status, fields)
	}
	if address, ok := hs.validated(t, "my-secret", sid); !ok || address != "447700900001" {
		t.Errorf("getValidated3pid: %q, %v", address, ok)
	}

	if _, fields := post(requestToken, "", request("taken", "07700900003", 1)); fields["errcode"] != "M_THREEPID_IN_USE" {
		t.Errorf("adding Alice's number to another account: %v", fields)
	}
	const password = "/_matrix/client/r0/account/password/msisdn/requestToken"
	if res, fields := post(password, "", request("forgotten", "07700900003", 1)); res.status != http.StatusOK {
		t.Errorf("resetting Alice's password: %d %v", res.status, fields)
	}
	limited := false
	for attempt := 1; attempt < 20 && !limited; attempt++ {
		res, fields := post(requestToken, "", request("impatient", "07700900009", attempt))
		limited = res.status == http.StatusTooManyRequests && res.header.Get("Retry-After") != "" && fields["retry_after_ms"] != nil
	}
	if !limited {
		t.Error("no request got status 429 with Retry-After")
	}
	if log := s.stderr.String(); strings.Contains(log, "client=203.0.113.7") || !strings.Contains(log, "client=127.0.0.1") {
		t.Errorf("the logged client address is not that from nginx:\n%s", log)
	}
	if len(reached) > 0 {
		t.Errorf("the homeserver received a request for %s", <-reached)
	}
	for _, path := range []string{"/_matrix/client/v3/account/3pid", "/_matrix/client/v3/login", "/_matrix/client/v3/account/3pid/email/requestToken"} {
		if _, fields := post(path, "", "{}"); fields["served_by"] != "synapse" {
			t.Errorf("%s did not reach the homeserver: %v", path, fields)
		}
	}
}
