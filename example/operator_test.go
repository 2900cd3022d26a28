package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	example "example.com/threepid/example"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
)

const opsToken = "token-of-the-operators"

// TestOperatorsPage runs the tests in e2e/operator, which use the operator's page in Chromium. The
// database contains a simulated day with an outage and, at its end, SMS pumping.
func TestOperatorsPage(t *testing.T) {
	t.Parallel()
	needPackages(t, "playwright-core", "axe-core")
	chromium := needProgram(t, "THREEPID_TEST_CHROMIUM", "apt-get install chromium", "chromium", "chromium-browser", "google-chrome")
	db := filepath.Join(t.TempDir(), "threepid.db")
	simulateDay(t, db, 1)
	_, ops := startOps(t, "-ops-token", opsToken, "-db", db, "-limits", "default")
	_, openOps := startOps(t, "-limits", "default")
	runNode(t, "operator",
		"THREEPID_CHROMIUM="+chromium, "THREEPID_OPS_URL="+ops, "THREEPID_OPS_TOKEN="+opsToken, "THREEPID_OPEN_OPS_URL="+openOps)
}

// day simulates the last 24 hours of a small host.
type day struct {
	t      *testing.T
	nodes  []*threepid.Plugin // used in turn
	turn   int
	sender *smstest.Recorder
	random *rand.Rand
	client int

	mu  sync.Mutex
	now time.Time
}

func (d *day) Now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *day) advance(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

// simulateDay runs several nodes on one database for a simulated day: with honest people, an outage
// of the provider and, at the end, an attacker who pumps a range.
func simulateDay(t *testing.T, db string, nodes int) {
	t.Helper()
	gin.SetMode(gin.TestMode)
	d := &day{t: t, sender: smstest.New(), random: rand.New(rand.NewPCG(1, 2)), now: time.Now().Add(-24 * time.Hour)}
	for range nodes {
		st, err := example.OpenStore(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		node, err := threepid.Register(gin.New(), st, d.sender, threepid.Options{
			Now: d.Now, Logger: slog.New(slog.DiscardHandler),
			Guard: limits.Guard{InitialBlock: 2 * time.Hour}, // longer than a slow test takes
		})
		if err != nil {
			t.Fatal(err)
		}
		d.nodes = append(d.nodes, node)
		defer d.end(node.Close, st.Close) //nolint:gocritic // all nodes are closed when the day ends
	}
	end := time.Now()
	for d.Now().Before(end.Add(-30 * time.Minute)) {
		switch hours := end.Sub(d.Now()).Hours(); {
		case hours < 9 && hours > 7:
			d.sender.FailAlways(errors.New("the provider is down"))
		default:
			d.sender.FailAlways(nil)
		}
		d.visit(d.number(), d.random.IntN(100) < 88)
		d.advance(time.Duration(2+d.random.IntN(8)) * time.Minute)
	}
	for i := 0; d.Now().Before(end.Add(-time.Minute)); i++ {
		d.visit(fmt.Sprintf("+44740001%04d", (5821+i*97)%10_000), false)
		d.advance(30 * time.Second)
	}
}

// end closes a node and its store.
func (d *day) end(closers ...func() error) {
	for _, c := range closers {
		if err := c(); err != nil {
			d.t.Error(err)
		}
	}
}

// node returns the next node.
func (d *day) node() *threepid.Plugin {
	d.turn++
	return d.nodes[d.turn%len(d.nodes)]
}

func (d *day) number() string {
	n := d.random.IntN(100)
	switch {
	case n < 60:
		return fmt.Sprintf("+4474%02d%06d", 10+d.random.IntN(80), d.random.IntN(1_000_000))
	case n < 85:
		return fmt.Sprintf("+336%08d", 10_000_000+d.random.IntN(80_000_000))
	}
	return fmt.Sprintf("+49151%08d", 10_000_000+d.random.IntN(80_000_000))
}

// visit requests a code for a number and, if confirms is true, submits it.
func (d *day) visit(number string, confirms bool) {
	d.client++
	secret := fmt.Sprint("secret-", d.client)
	node := d.node()
	response, err := node.RequestToken(d.t.Context(), threepid.TokenRequest{
		Purpose: threepid.PurposeAdd, ClientSecret: secret, PhoneNumber: number, SendAttempt: 1, ClientKey: fmt.Sprintf("2001:db8:%x::1", d.client),
	})
	if err != nil {
		return
	}
	m, _ := d.sender.Last()
	if err := node.RecordReceipt(d.t.Context(), sms.Receipt{MessageID: m.ID, Status: sms.Delivered}); err != nil {
		d.t.Fatal(err)
	}
	if !confirms {
		return
	}
	d.advance(time.Duration(8+d.random.IntN(60)) * time.Second)
	submission := threepid.TokenSubmission{SID: response.SID, ClientSecret: secret, Token: smstest.Token(m)}
	if d.random.IntN(10) == 0 {
		wrong := submission
		wrong.Token = "000000"
		_, _ = d.node().SubmitToken(d.t.Context(), wrong)
	}
	if _, err := d.node().SubmitToken(d.t.Context(), submission); err != nil {
		d.t.Error(err)
	}
}

// TestOperatorsOnThreeNodes simulates a day on three nodes with one PostgreSQL database, and checks that
// three new nodes return the same statistics and blocks, and that an action on one is seen by the others.
func TestOperatorsOnThreeNodes(t *testing.T) {
	t.Parallel()
	open, ok := databases(30)["PostgreSQL"]
	if !ok {
		t.Fatal("databases has no entry for PostgreSQL")
	}
	db := open(t)
	simulateDay(t, db, 3)
	ask := func(ops, path, body string) string {
		t.Helper()
		method := http.MethodGet
		if body != "" {
			method = http.MethodPost
		}
		req, err := http.NewRequestWithContext(t.Context(), method, ops+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+opsToken)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s, %v", path, res.StatusCode, text, err)
		}
		return string(text)
	}
	var nodes, responses []string
	for range 3 {
		_, ops := startOps(t, "-ops-token", opsToken, "-db", db, "-limits", "default")
		nodes = append(nodes, ops)
		var all struct {
			Statistics []struct {
				Event, Result, Provider string
				Count                   int
			}
		}
		if err := json.Unmarshal([]byte(ask(ops, "/api/v1/statistics", "")), &all); err != nil {
			t.Fatal(err)
		}
		sums := map[string]int{}
		for _, s := range all.Statistics {
			sums[s.Event+" "+s.Result+" "+s.Provider] += s.Count
		}
		responses = append(responses, fmt.Sprint(sums, ask(ops, "/api/v1/blocks", "")))
		if sums["sms accepted smstest"] < 100 || sums["sms failed smstest"] < 10 || sums["receipt delivered smstest"] < 100 {
			t.Errorf("statistics: %v", sums)
		}
		explained := ask(ops, "/api/v1/number/explain", `{"number":"+447400015821"}`)
		for _, part := range []string{`"type": "sms"`, `"type": "receipt"`, `"range": "44740001"`} {
			if !strings.Contains(explained, part) {
				t.Errorf("the explanation of the number does not contain %s: %s", part, explained)
			}
		}
	}
	if responses[0] != responses[1] || responses[0] != responses[2] {
		t.Errorf("the nodes return different responses: %q", responses)
	}
	if !strings.Contains(responses[0], `"range": "44740001"`) {
		t.Errorf("the pumped range is not blocked: %s", responses[0])
	}
	// awaitRanges waits until right accepts the number of blocked ranges in a node's metrics, which nodes
	// update every ten seconds.
	awaitRanges := func(ops, why string, right func(count int) bool) (count int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			_, after, _ := strings.Cut(ask(ops, "/metrics", ""), `threepid_blocks{kind="range"} `)
			if _, err := fmt.Sscan(after, &count); err == nil && right(count) {
				return count
			}
			if time.Now().After(end) {
				t.Fatalf("%s: metrics report %d blocked ranges", why, count)
			}
		}
	}
	before := awaitRanges(nodes[1], "on a node that has just started", func(n int) bool { return n > 0 })
	awaitRanges(nodes[2], "on another node", func(n int) bool { return n == before })
	ask(nodes[0], "/api/v1/blocks/lift", `{"range":"44740001"}`)
	awaitRanges(nodes[1], "after another node has lifted a block", func(n int) bool { return n == before-1 })
	if left := ask(nodes[2], "/api/v1/blocks", ""); strings.Contains(left, "44740001") {
		t.Errorf("another node still returns the lifted block: %s", left)
	}
	for end := time.Now().Add(time.Minute); !strings.Contains(ask(nodes[1], "/api/v1/actions", ""), `"action": "lift"`); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the audit log on another node does not contain the action")
		}
	}
}

// TestOperatorsLoginWithASlowBody has a client that does not send the body of its login: others can
// log in.
func TestOperatorsLoginWithASlowBody(t *testing.T) {
	t.Parallel()
	_, ops := startOps(t, "-ops-token", opsToken)
	conn, err := net.Dial("tcp", strings.TrimPrefix(ops, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const head = "POST /login HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ntoken="
	if _, err := fmt.Fprintf(conn, head, conn.RemoteAddr()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // the server reads it
	client := &http.Client{Timeout: 5 * time.Second}
	res, err := client.PostForm(ops+"/login", url.Values{"token": {"wrong"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("status %d", res.StatusCode)
	}
}

// TestOperatorsLogin checks that a browser can log in and out, and that wrong tokens are rate limited.
func TestOperatorsLogin(t *testing.T) {
	t.Parallel()
	s, ops := startOps(t, "-ops-token", opsToken)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(ops)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	type response struct {
		status   int
		location string
		cookies  []*http.Cookie
	}
	ask := func(method, path, form string, header ...string) response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, ops+path, strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		if form != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i+1 < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return response{res.StatusCode, res.Header.Get("Location"), res.Cookies()}
	}
	login := func(token string, header ...string) response {
		t.Helper()
		return ask(http.MethodPost, "/login", url.Values{"token": {token}, "name": {" Carol "}}.Encode(), header...)
	}
	if res := ask(http.MethodGet, "/blocks", ""); res.status != http.StatusSeeOther || res.location != "/login" {
		t.Errorf("without a login: status %d, redirect to %q", res.status, res.location)
	}
	if res := ask(http.MethodPost, "/number/unblock", "number=%2B447700900001"); res.status != http.StatusUnauthorized {
		t.Errorf("an action without a login: %d", res.status)
	}
	if res := login(opsToken, "Sec-Fetch-Site", "cross-site"); res.status != http.StatusForbidden {
		t.Errorf("a login from another site: %d, want 403", res.status)
	}
	res := login(opsToken)
	cookies := res.cookies
	if res.status != http.StatusSeeOther || len(cookies) != 1 || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteStrictMode || strings.Contains(cookies[0].Value, opsToken) {
		t.Fatalf("login: %d %+v", res.status, cookies)
	}
	for _, path := range []string{"/", "/blocks", "/metrics", "/api/v1/blocks"} {
		if res := ask(http.MethodGet, path, ""); res.status != http.StatusOK {
			t.Errorf("%s, after logging in: %d", path, res.status)
		}
	}
	if res := ask(http.MethodPost, "/number/unblock", "number=%2B447700900001"); res.status != http.StatusOK {
		t.Errorf("an action after logging in: %d", res.status)
	}
	if cookies[0].Secure {
		t.Error("the cookie is marked Secure although the server has no TLS")
	}
	ask(http.MethodPost, "/logout", "")
	jar.SetCookies(address, cookies) // as if an attacker had copied them
	if res := ask(http.MethodGet, "/blocks", ""); res.status != http.StatusSeeOther {
		t.Errorf("with the cookies of an ended login: %d", res.status)
	}
	if res := login(opsToken, "X-Forwarded-Proto", "https"); len(res.cookies) != 1 || !res.cookies[0].Secure {
		t.Errorf("the cookie is not marked Secure behind a proxy that terminates TLS: %+v", res.cookies)
	}
	statuses := map[int]int{}
	for i := range 30 {
		statuses[login(fmt.Sprint("guess ", i)).status]++
	}
	if statuses[http.StatusTooManyRequests] < 10 || statuses[http.StatusUnauthorized] < 10 {
		t.Errorf("statuses for wrong tokens in the form: %v", statuses)
	}
	status, actions := get(t, ops+"/api/v1/actions", "", "Bearer "+opsToken)
	if status != http.StatusOK || !strings.Contains(actions, `"operator": "Carol"`) {
		t.Errorf("the right token in a header, while the form is rate limited: %d %s", status, actions)
	}
	statuses = map[int]int{}
	for i := range 130 { // enough to exceed the limit even if a new minute starts in between
		status, body := get(t, ops+"/api/v1/blocks", "", fmt.Sprint("Bearer guess ", i))
		if statuses[status]++; !json.Valid([]byte(body)) {
			t.Fatalf("status %d with a body that is not JSON: %s", status, body)
		}
	}
	if statuses[http.StatusUnauthorized] < 60 || statuses[http.StatusTooManyRequests] < 10 {
		t.Errorf("statuses for wrong tokens in headers: %v", statuses)
	}
	if runtime.GOOS == "linux" { // on Linux, all of 127.0.0.0/8 is local
		from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		browser.Transport = &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}
		if res := login(opsToken); res.status != http.StatusSeeOther {
			t.Errorf("a login of another client, while the first is rate limited: %d", res.status)
		}
	}
	if log := s.stderr.String(); strings.Contains(log, opsToken) || strings.Contains(log, "guess") {
		t.Errorf("the log contains a token: %s", log)
	}
}
