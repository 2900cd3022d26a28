package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
)

const (
	base    = "/_api/client/v3"
	addPath = base + string(threepid.EndpointRequestTokenAdd)
	regPath = base + string(threepid.EndpointRequestTokenRegister)
	pwdPath = base + string(threepid.EndpointRequestTokenPassword)
	subPath = base + string(threepid.EndpointSubmitToken)

	secret = "monkeys_are_GREAT" // the specification's example
	spoken = "07700900001"       // the specification's example, dialled from GB
	msisdn = "447700900001"
)

// node is a server with the plugin, and all of it that tests can observe from outside.
type node struct {
	tb     testing.TB
	router *gin.Engine
	plugin *threepid.Plugin
	store  Store
	sms    *smstest.Recorder
	clock  *clock
	logs   *logs
	events *heard
	client *http.Client
	url    string
}

// start runs a node whose sender is a recorder until the test ends. It then checks that the log and
// the events contain no secrets.
func start(tb testing.TB, st Store, change ...func(*threepid.Options)) *node {
	tb.Helper()
	recorder := smstest.New()
	n := startWith(tb, st, recorder, &logs{}, change...)
	n.sms = recorder
	return n
}

// startWith is start with another sender, and a log that others may write to.
func startWith(tb testing.TB, st Store, sender sms.Sender, l *logs, change ...func(*threepid.Options)) *node {
	tb.Helper()
	return startOn(tb, gin.New(), st, sender, l, change...)
}

// startOn is startWith on a router that the host has prepared.
func startOn(tb testing.TB, router *gin.Engine, st Store, sender sms.Sender, l *logs, change ...func(*threepid.Options)) *node {
	tb.Helper()
	n := &node{
		tb: tb, router: router, store: st, sms: smstest.New(),
		clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, logs: l, events: &heard{},
	}
	// Redirects are not followed, so that a test can look at them.
	n.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	opts := threepid.Options{
		Logger: n.logs.logger(), Now: n.clock.Now,
		Limits: limits.Limits{Disabled: true}, Guard: limits.Guard{Disabled: true}, // they have tests of their own
	}
	for _, c := range change {
		c(&opts)
	}
	if opts.Observer == nil {
		opts.Observer = n.events
	} else {
		opts.Observer = observe.All(n.events, opts.Observer)
	}
	var err error
	if n.plugin, err = threepid.Register(n.router, st, sender, opts); err != nil {
		tb.Fatal(err)
	}
	server := httptest.NewServer(n.router)
	n.url = server.URL
	tb.Cleanup(func() {
		server.Close()
		_ = n.plugin.Close()
		n.checkLogs()
		n.checkEvents()
	})
	return n
}

// checkLogs fails the test if a code, a secret or a complete number was logged.
func (n *node) checkLogs() {
	n.tb.Helper()
	text := n.logs.String()
	for _, s := range n.secretsIn(text) {
		n.tb.Errorf("the log has %q:\n%s", s, text)
	}
}

// checkEvents is checkLogs for the events.
func (n *node) checkEvents() {
	n.tb.Helper()
	n.events.mu.Lock()
	defer n.events.mu.Unlock()
	if len(n.events.events) == 0 {
		return
	}
	var all strings.Builder
	for _, e := range n.events.events {
		_, _ = fmt.Fprintf(&all, "%+v\n", e)
	}
	// The digits of a time could look like a code.
	text := regexp.MustCompile(`\d{4}-\d\d-\d\d [^ ]+ [+-]\d{4} [A-Z]+( m=[^ }]+)?`).ReplaceAllString(all.String(), "TIME")
	for _, s := range n.secretsIn(text) {
		for line := range strings.Lines(text) {
			if strings.Contains(line, s) {
				n.tb.Errorf("an event has %q: %s", s, line)
			}
		}
	}
}

// secretsIn returns the codes, secrets and complete numbers in a text.
func (n *node) secretsIn(text string) (found []string) {
	secrets := map[string]bool{secret: true, msisdn: true, spoken[1:]: true}
	tokens := map[string]bool{}
	for _, call := range n.sms.Calls() {
		tokens[smstest.Token(call)] = true
		secrets[strings.TrimPrefix(call.To, "+")] = true
	}
	for s := range secrets {
		if s != "" && strings.Contains(text, s) {
			found = append(found, s)
		}
	}
	// The digits of a code may be part of a masked number or a sid, but must not appear alone.
	for _, word := range strings.FieldsFunc(text, notInWord) {
		if tokens[word] {
			found = append(found, word)
		}
	}
	return found
}

func notInWord(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }

// answer is an HTTP response with its body.
type answer struct {
	status int
	header http.Header
	closed bool // the server closes the connection
	body   string
	fields map[string]any // of a JSON object
}

func (a answer) errcode() string {
	code, _ := a.fields["errcode"].(string)
	return code
}

func (a answer) text(name string) string {
	s, _ := a.fields[name].(string)
	return s
}

func (n *node) do(method, path, contentType, body string) answer {
	n.tb.Helper()
	req, err := http.NewRequestWithContext(n.tb.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.tb.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	return n.send(req)
}

func (n *node) send(req *http.Request) answer {
	n.tb.Helper()
	res, err := n.client.Do(req)
	if err != nil {
		n.tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		n.tb.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, closed: res.Close, body: string(body)}
	_ = json.Unmarshal(body, &a.fields)
	return a
}

func (n *node) post(path, body string) answer {
	n.tb.Helper()
	return n.do(http.MethodPost, path, "application/json", body)
}

// request returns a valid body of requestToken; change overrides fields, and nil removes one.
func request(change map[string]any) string {
	fields := map[string]any{"client_secret": secret, "country": "GB", "phone_number": spoken, "send_attempt": 1}
	maps.Copy(fields, change)
	maps.DeleteFunc(fields, func(_ string, v any) bool { return v == nil })
	body, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(body)
}

func attempt(i int) string { return request(map[string]any{"send_attempt": i}) }

func (n *node) mustRequest(path, body string) answer {
	n.tb.Helper()
	a := n.post(path, body)
	if a.status != http.StatusOK {
		n.tb.Fatalf("requestToken: %d %s", a.status, a.body)
	}
	return a
}

func (n *node) submit(sid, clientSecret, token string) answer {
	n.tb.Helper()
	body, err := json.Marshal(map[string]string{"sid": sid, "client_secret": clientSecret, "token": token})
	if err != nil {
		n.tb.Fatal(err)
	}
	return n.post(subPath, string(body))
}

func (n *node) submitGet(sid, clientSecret, token string) answer {
	n.tb.Helper()
	query := url.Values{"sid": {sid}, "client_secret": {clientSecret}, "token": {token}}
	return n.do(http.MethodGet, subPath+"?"+query.Encode(), "", "")
}

// token is the code in the latest SMS.
func (n *node) token() string {
	n.tb.Helper()
	m, ok := n.sms.Last()
	if !ok {
		n.tb.Fatal("no SMS was sent")
	}
	return smstest.Token(m)
}

// wrong returns a code other than this one.
func wrong(token string) string {
	last := token[len(token)-1]
	return token[:len(token)-1] + string('0'+(last-'0'+1)%10)
}

// expect fails the test unless the response has that status and errcode.
func expect(t *testing.T, a answer, status int, errcode string) {
	t.Helper()
	if a.status != status || a.errcode() != errcode {
		t.Errorf("got status %d %q, want %d %q; body %s", a.status, a.errcode(), status, errcode, a.body)
	}
	if errcode != "" && a.text("error") == "" {
		t.Errorf("no sentence for a person: %s", a.body)
	}
	if got := a.header.Get("Content-Type"); errcode != "" && got != "application/json" {
		t.Errorf("Content-Type %q, want exactly application/json", got)
	}
}

func (n *node) expectTexts(t *testing.T, want int) {
	t.Helper()
	if got := n.sms.Count(); got != want {
		t.Errorf("%d SMS were sent, want %d", got, want)
	}
}

// associate adds the number to an account.
func (n *node) associate(t *testing.T, user, number string) {
	t.Helper()
	if err := n.store.Associate(t.Context(), store.Association{UserID: user, MSISDN: number, AddedAt: 1}); err != nil {
		t.Fatal(err)
	}
}

// sessionOf returns the client's session for the number.
func (n *node) sessionOf(t *testing.T) (s store.Session, err error) {
	t.Helper()
	rows, err := n.store.View(t.Context(), store.Names{Session: store.SessionRef{Key: store.SessionKey(secret, "GB", msisdn)}})
	if err == nil && rows.Session.SID == "" {
		err = store.ErrNotFound
	}
	return rows.Session, err
}

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logs keeps all that was logged, at every level.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// logger logs without times, whose digits could look like a code.
func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// together runs f n times at once and returns when all are done.
func together(n int, f func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-gate
			f(i)
		})
	}
	close(gate)
	wg.Wait()
}

// patience is much longer than anything that a test waits for, even with a slow database.
const patience = time.Minute

// waitUntil polls for a condition that other goroutines fulfil.
func waitUntil(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
