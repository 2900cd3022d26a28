package plugintest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/sms/smstest"
)

// httpTests are about HTTP alone: methods, headers, sizes.
func httpTests() []test {
	return []test{
		{"CORS", testCORS},
		{"CORSOff", testCORSOff},
		{"CORSOfTheHost", testCORSOfTheHost},
		{"OptionsRunsNoEndpoint", testOptionsRunsNoEndpoint},
		{"WrongMethod", testWrongMethod},
		{"NotFound", testNotFound},
		{"NotFoundWithoutCORS", testNotFoundWithoutCORS},
		{"BodyLimit", testBodyLimit},
		{"BodyLimitReadsNoFurther", testBodyLimitReadsNoFurther},
		{"SlowBodiesAreCutOff", testSlowBodiesAreCutOff},
		{"SlowSMSAreNotCutOff", testSlowSMSAreNotCutOff},
		{"TheDocumentsClient", testTheDocumentsClient},
	}
}

func allPaths() []string { return []string{addPath, regPath, pwdPath, subPath} }

var corsHeaders = map[string]string{
	"Access-Control-Allow-Origin":   "*",
	"Access-Control-Allow-Methods":  "GET, POST, PUT, DELETE, OPTIONS",
	"Access-Control-Allow-Headers":  "X-Requested-With, Content-Type, Authorization",
	"Access-Control-Expose-Headers": "Retry-After",
}

// testCORS checks that each kind of response has the headers, once.
func testCORS(t *testing.T, open opener) {
	n := start(t, open(t))
	for _, a := range []answer{
		n.do(http.MethodOptions, addPath, "", ""),
		n.do(http.MethodPut, addPath, "", ""),
		n.post(addPath, "{}"),
		n.post(addPath, request(nil)),
		n.post(subPath, "{}"),
		n.do(http.MethodGet, subPath, "", ""),
		n.post(addPath, strings.Repeat(" ", 70000)),
	} {
		for name, want := range corsHeaders {
			if got := a.header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%d: %s is %q", a.status, name, got)
			}
		}
	}
}

func testCORSOff(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) { o.DisableCORS = true })
	a := n.post(addPath, request(nil))
	for name := range corsHeaders {
		if a.header.Get(name) != "" {
			t.Errorf("%s is set", name)
		}
	}
}

// testCORSOfTheHost makes the host's middleware set a header first.
func testCORSOfTheHost(t *testing.T, open opener) {
	router := gin.New()
	router.Use(func(c *gin.Context) { c.Header("Access-Control-Allow-Origin", "https://app.example.org") })
	n := startOn(t, router, open(t), smstest.New(), &logs{})
	a := n.post(addPath, request(nil))
	if got := a.header.Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != "https://app.example.org" {
		t.Errorf("Access-Control-Allow-Origin %q", got)
	}
}

func testOptionsRunsNoEndpoint(t *testing.T, open opener) {
	n := start(t, open(t))
	for _, path := range allPaths() {
		a := n.do(http.MethodOptions, path, "application/json", request(nil))
		if a.status != http.StatusNoContent || a.body != "" {
			t.Errorf("OPTIONS %s: %d %s", path, a.status, a.body)
		}
	}
	n.expectTexts(t, 0)
}

func testWrongMethod(t *testing.T, open opener) {
	n := start(t, open(t))
	for _, path := range allPaths() {
		allow := "POST, OPTIONS"
		if path == subPath {
			allow = "GET, POST, OPTIONS"
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE"} {
			if strings.Contains(allow, method) {
				continue
			}
			a := n.do(method, path, "", "")
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q", method, path, a.status, a.header.Get("Allow"))
			}
			if method != "HEAD" {
				expect(t, a, http.StatusMethodNotAllowed, "M_UNRECOGNIZED")
			}
		}
	}
}

// testNotFound requests paths that nothing serves: below a base path, next to one, and a path that
// only begins like one.
func testNotFound(t *testing.T, open opener) {
	router := gin.New()
	router.RedirectTrailingSlash = false
	n := startOn(t, router, open(t), smstest.New(), &logs{})
	router.NoRoute(n.plugin.NotFound, teapot)
	if err := n.plugin.Mount(router, "/_matrix/client/r0"); err != nil {
		t.Fatal(err)
	}
	router.GET(base+"/hosts/own", teapot)
	for _, path := range []string{
		base, base + "/", base + "/account/3pid/bind", addPath + "/", addPath + "/more", base + "/hosts/own/", "/_matrix/client/r0/account/3pid/unbind",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			a := n.do(method, path, "", request(nil))
			expect(t, a, http.StatusNotFound, "M_UNRECOGNIZED")
			for name, want := range corsHeaders {
				if got := a.header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s %s: %s is %q", method, path, name, got)
				}
			}
		}
		if a := n.do(http.MethodOptions, path, "", ""); a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("OPTIONS %s: %d %v", path, a.status, a.header)
		}
	}
	for _, path := range []string{"/", base + "x/account", "/_matrix/client/v1/x", "/account/3pid/bind"} {
		if a := n.do(http.MethodGet, path, "", ""); a.header.Get("Access-Control-Allow-Origin") != "" || a.body != "the host's own" {
			t.Errorf("%s is the host's: %d %v %s", path, a.status, a.header, a.body)
		}
	}
	if a := n.do(http.MethodGet, base+"/hosts/own", "", ""); a.status != http.StatusTeapot {
		t.Errorf("the host's own path: %d", a.status)
	}
	n.mustRequest(addPath, request(nil))
}

func testNotFoundWithoutCORS(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) { o.DisableCORS = true })
	n.router.NoRoute(n.plugin.NotFound)
	a := n.post(base+"/account/3pid/bind", "{}")
	expect(t, a, http.StatusNotFound, "M_UNRECOGNIZED")
	if a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("headers %v", a.header)
	}
}

func testBodyLimit(t *testing.T, open opener) {
	n := start(t, open(t))
	pad := func(size int) string { return request(nil) + strings.Repeat(" ", size-len(request(nil))) }
	if a := n.post(addPath, pad(64<<10)); a.status != http.StatusOK {
		t.Errorf("64 KiB: %d %s", a.status, a.body)
	}
	for _, path := range []string{addPath, subPath} {
		a := n.post(path, pad(64<<10+1))
		expect(t, a, http.StatusRequestEntityTooLarge, "M_TOO_LARGE")
		if !a.closed {
			t.Errorf("%s: the connection is kept, so the server reads the body to its end", path)
		}
	}
	n.expectTexts(t, 1)
}

// answerWhile returns the server's response while write writes to a connection, which stays open
// until the test ends.
func (n *node) answerWhile(write func(net.Conn)) answer {
	n.tb.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		n.tb.Fatal(err)
	}
	n.tb.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		n.tb.Fatal(err)
	}
	go write(conn)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		n.tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(res.Body)
	return answer{status: res.StatusCode, body: string(body), closed: res.Close}
}

// testBodyLimitReadsNoFurther sends an endless body of unknown length.
func testBodyLimitReadsNoFurther(t *testing.T, open opener) {
	n := start(t, open(t))
	sent := make(chan int, 1)
	a := n.answerWhile(func(conn net.Conn) {
		total := 0
		_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", addPath)
		chunk := append([]byte("10000\r\n"), append(bytes.Repeat([]byte(" "), 0x10000), "\r\n"...)...)
		for err == nil && total < 256<<20 {
			_, err = conn.Write(chunk)
			total += 0x10000
		}
		sent <- total
	})
	if a.status != http.StatusRequestEntityTooLarge || !a.closed {
		t.Errorf("%d, connection kept: %v", a.status, !a.closed)
	}
	if total := <-sent; total >= 64<<20 {
		t.Errorf("the server took %d bytes", total)
	}
}

// testSlowBodiesAreCutOff sends an endless body byte by byte to a server without timeouts of its
// own.
func testSlowBodiesAreCutOff(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) { o.BodyTimeout = 100 * time.Millisecond })
	a := n.answerWhile(func(conn net.Conn) {
		_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n", addPath)
		for err == nil {
			_, err = conn.Write([]byte(" "))
			time.Sleep(5 * time.Millisecond)
		}
	})
	if a.status != http.StatusBadRequest || !strings.Contains(a.body, "M_NOT_JSON") || !a.closed {
		t.Errorf("%d %s, connection kept: %v", a.status, a.body, !a.closed)
	}
}

// testSlowSMSAreNotCutOff sends an SMS that takes longer than a body may, while another request
// waits for it.
func testSlowSMSAreNotCutOff(t *testing.T, open opener) {
	recorder := smstest.New()
	n := startWith(t, open(t), smstest.Delay(recorder, 300*time.Millisecond), &logs{}, func(o *threepid.Options) { o.BodyTimeout = 100 * time.Millisecond })
	together(2, func(int) { expect(t, n.post(addPath, attempt(1)), http.StatusOK, "") })
	if recorder.Count() != 1 {
		t.Errorf("%d SMS", recorder.Count())
	}
}

// testTheDocumentsClient sends what the client in the design document sends, byte for byte: without
// optional fields, in its order, without a trailing newline.
func testTheDocumentsClient(t *testing.T, open opener) {
	n := start(t, open(t))
	const body = `{"client_secret":"monkeys_are_GREAT","country":"GB","phone_number":"07700900001","send_attempt":1}`
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+"/_api/client/v3/account/3pid/msisdn/requestToken", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	a := n.send(req)
	// That client accepts 200 alone, and expects sid and submit_url to be strings.
	if a.status != http.StatusOK || a.text("sid") == "" || !strings.HasPrefix(a.text("submit_url"), "http") {
		t.Errorf("%d %s", a.status, a.body)
	}
	const whole = `{"client_secret":"monkeys_are_GREAT","country":"GB","next_link":"https://example.org/","phone_number":"07700900001","send_attempt":2,"id_access_token":"abc","id_server":"id.example.org"}`
	if a := n.post(addPath, whole); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	n.expectTexts(t, 2)
}
