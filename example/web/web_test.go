package web_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/example/web"
	"example.com/threepid/sms"
)

// serve starts a server with a Site and returns its URL.
func serve(t *testing.T, phone *web.Phone) string {
	t.Helper()
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	site := web.New("/_api/client/v3", phone)
	if err := site.Mount(router); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(router)
	t.Cleanup(server.Close)
	if phone != nil {
		t.Cleanup(phone.Close)
	}
	return server.URL
}

// response is an HTTP response whose body is closed when the test ends.
type response struct {
	status int
	header http.Header
	body   io.ReadCloser
}

func get(t *testing.T, url string, change func(*http.Request)) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return response{res.StatusCode, res.Header, res.Body}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	url := serve(t, nil)
	for path, kind := range map[string]string{
		"/":              "text/html; charset=utf-8",
		"/web/app.js":    "text/javascript; charset=utf-8",
		"/web/app.css":   "text/css; charset=utf-8",
		"/web/icon.svg":  "image/svg+xml; charset=utf-8",
		"/demo/config":   "application/json",
		"/demo/texts":    "", // there is no phone
		"/web/web.go":    "",
		"/web/":          "",
		"/web/../go.mod": "",
	} {
		res := get(t, url+path, nil)
		header := res.header
		if kind == "" {
			if res.status != http.StatusNotFound {
				t.Errorf("%s: %d", path, res.status)
			}
			continue
		}
		if res.status != http.StatusOK || header.Get("Content-Type") != kind || header.Get("X-Content-Type-Options") != "nosniff" ||
			!strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none';") {
			t.Errorf("%s: %d %v", path, res.status, header)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	url := serve(t, web.NewPhone())
	var config struct {
		BasePath  string `json:"base_path"`
		Phone     bool   `json:"phone"`
		Countries map[string]struct {
			Code    int    `json:"code"`
			Example string `json:"example"`
		} `json:"countries"`
	}
	if err := json.NewDecoder(get(t, url+"/demo/config", nil).body).Decode(&config); err != nil {
		t.Fatal(err)
	}
	gb := config.Countries["GB"]
	if config.BasePath != "/_api/client/v3" || !config.Phone || len(config.Countries) < 240 || gb.Code != 44 || gb.Example != "07400 123456" {
		t.Errorf("%d countries, GB %+v, %v", len(config.Countries), gb, config)
	}
}

// TestAuthenticate checks that any token of 32 bytes identifies a guest, and that others are refused.
func TestAuthenticate(t *testing.T) {
	t.Parallel()
	site := web.New("/", nil)
	as := func(authorization string) (string, error) {
		c, _ := gin.CreateTestContext(httptest.NewRecorder())
		c.Request = httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		c.Request.Header.Set("Authorization", authorization)
		return site.Authenticate(c)
	}
	token := func(b byte, n int) string {
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat(string(rune(b)), n)))
	}
	ada, err := as("Bearer " + token('a', 32))
	if err != nil || strings.Contains(ada, token('a', 32)) {
		t.Errorf("%q, %v", ada, err)
	}
	if again, _ := as("bearer " + token('a', 32)); again != ada {
		t.Errorf("the same token identified %q, and then %q", ada, again)
	}
	if ben, err := as("Bearer " + token('b', 32)); err != nil || ben == ada {
		t.Errorf("%q, %v", ben, err)
	}
	for authorization, want := range map[string]error{
		"":                               threepid.ErrMissingToken,
		"Bearer":                         threepid.ErrMissingToken,
		"Bearer ":                        threepid.ErrMissingToken,
		"Basic " + token('a', 32):        threepid.ErrMissingToken,
		"Bearer " + token('a', 31):       threepid.ErrUnknownToken,
		"Bearer " + token('a', 33):       threepid.ErrUnknownToken,
		"Bearer guess":                   threepid.ErrUnknownToken,
		"Bearer " + ada:                  threepid.ErrUnknownToken,
		"Bearer " + token('a', 32) + "=": threepid.ErrUnknownToken,
	} {
		if user, err := as(authorization); user != "" || !errors.Is(err, want) {
			t.Errorf("%q: %q, %v", authorization, user, err)
		}
	}
}

// send sends an SMS through the phone's sender. provider is the error of the sender behind it.
func send(t *testing.T, phone *web.Phone, text string, provider error) error {
	t.Helper()
	next := sms.Func(func(context.Context, sms.Message) error { return provider })
	return phone.Sender(next).Send(t.Context(), sms.Message{To: "+447400123456", Text: text})
}

// events reads n SMS from a stream, and returns their texts and the ID of the last one.
func events(t *testing.T, body io.Reader, n int) (texts []string, last string) {
	t.Helper()
	lines := bufio.NewScanner(body)
	for len(texts) < n && lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			last = id
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var event struct{ To, Text string }
			if err := json.Unmarshal([]byte(data), &event); err != nil || event.To != "+44 7400 123456" {
				t.Errorf("%s: %v", data, err)
			}
			texts = append(texts, event.Text)
		}
	}
	return texts, last
}

// TestPhone checks that a stream contains earlier and new SMS, and that a stream that resumes after a
// lost connection repeats none.
func TestPhone(t *testing.T) {
	t.Parallel()
	phone := web.NewPhone()
	url := serve(t, phone)
	refused := errors.New("refused")
	if err := send(t, phone, "never sent", refused); !errors.Is(err, refused) {
		t.Errorf("got error %v, want that of the provider", err)
	}
	_ = send(t, phone, "first\n\ndata: forged", nil)
	stream := get(t, url+"/demo/texts", nil)
	_ = send(t, phone, "second", nil)
	got, last := events(t, stream.body, 2)
	if len(got) != 2 || got[0] != "first\n\ndata: forged" || got[1] != "second" || stream.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("got SMS %q with content type %s", got, stream.header.Get("Content-Type"))
	}
	_ = send(t, phone, "third", nil)
	again := get(t, url+"/demo/texts", func(r *http.Request) { r.Header.Set("Last-Event-ID", last) })
	if got, _ := events(t, again.body, 1); len(got) != 1 || got[0] != "third" {
		t.Errorf("after reconnecting, got %q, want only the third SMS", got)
	}
}

// TestPhoneIsBounded sends more SMS than the phone keeps, and opens more pages than it serves. After
// one page is closed, another can be opened.
func TestPhoneIsBounded(t *testing.T) {
	t.Parallel()
	phone := web.NewPhone()
	url := serve(t, phone)
	for i := range 1000 {
		_ = send(t, phone, fmt.Sprint(i), nil)
	}
	var streams []response
	for range 16 {
		streams = append(streams, get(t, url+"/demo/texts", nil))
	}
	if got, _ := events(t, streams[0].body, 20); len(got) != 20 || got[0] != "980" {
		t.Errorf("the phone kept %q, want the last 20 SMS", got)
	}
	if res := get(t, url+"/demo/texts", nil); res.status != http.StatusServiceUnavailable || res.header.Get("Retry-After") == "" {
		t.Errorf("one page too many: status %d", res.status)
	}
	_ = streams[0].body.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if get(t, url+"/demo/texts", nil).status == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no page can be opened after another was closed")
		}
	}
}

// TestPhoneCloses checks that Close ends the streams, so that a server can shut down.
func TestPhoneCloses(t *testing.T) {
	t.Parallel()
	phone := web.NewPhone()
	url := serve(t, phone)
	stream := get(t, url+"/demo/texts", nil)
	phone.Close()
	phone.Close()
	if _, err := io.Copy(io.Discard, stream.body); err != nil {
		t.Errorf("the stream broke: %v", err)
	}
}

// TestPhoneRefusesOtherOrigins checks that requests from other websites, through proxies,
// and with host names that only look like a loopback name are refused.
func TestPhoneRefusesOtherOrigins(t *testing.T) {
	t.Parallel()
	url := serve(t, web.NewPhone())
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(name string) func(*http.Request) {
		return func(r *http.Request) { r.Host = name }
	}
	for name, row := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"unchanged":        {nil, http.StatusOK},
		"localhost":        {host("localhost:8008"), http.StatusOK},
		"IPv6":             {host("[::1]:8008"), http.StatusOK},
		"no port":          {host("127.0.0.1"), http.StatusOK},
		"its own page":     {header("Sec-Fetch-Site", "same-origin"), http.StatusOK},
		"its own origin":   {header("Origin", url), http.StatusOK},
		"rebound name":     {host("evil.example:8008"), http.StatusForbidden},
		"misleading name":  {host("127.0.0.1.evil.example"), http.StatusForbidden},
		"another address":  {host("192.0.2.1:8008"), http.StatusForbidden},
		"subdomain":        {host("localhost.evil.example"), http.StatusForbidden},
		"another site":     {header("Sec-Fetch-Site", "cross-site"), http.StatusForbidden},
		"another port":     {header("Sec-Fetch-Site", "same-site"), http.StatusForbidden},
		"another origin":   {header("Origin", "http://evil.example"), http.StatusForbidden},
		"a proxy":          {header("X-Forwarded-For", "127.0.0.1"), http.StatusForbidden},
		"a standard proxy": {header("Forwarded", "for=127.0.0.1"), http.StatusForbidden},
	} {
		res := get(t, url+"/demo/texts", row.change)
		if res.status != row.status || res.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %d %v", name, res.status, res.header)
		}
	}
}
