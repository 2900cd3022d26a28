package main_test

import (
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sendTimeout is the default of Options.SendTimeout, which the example uses.
const sendTimeout = 10 * time.Second

// fault is a way in which a provider can fail, and the response that the caller must get.
type fault struct {
	name    string
	behave  behaviour
	status  int // of the response to the caller
	errcode string
	minTime time.Duration // of the response
	maxTime time.Duration
}

const quick = 10 * time.Second // long enough for a busy machine

// faults lists all faults. None of them spoils a connection that could be reused: the SMS of
// another fault could be lost on it.
func faults(elsewhere string) []fault {
	failed := func(name string, b behaviour) fault {
		return fault{name, b, http.StatusBadGateway, "M_SEND_ERROR", 0, sendTimeout + quick}
	}
	accepted := func(name string, b behaviour) fault {
		return fault{name, b, http.StatusOK, "", 0, sendTimeout + quick}
	}
	hangs := func(name string, b behaviour) fault {
		return fault{name, b, http.StatusBadGateway, "M_SEND_ERROR", sendTimeout - time.Second, sendTimeout + quick}
	}
	const ok = "HTTP/1.1 200 OK\r\n"
	return []fault{
		hangs("hangs", holding(nil)),
		hangs("hangs within the headers", raw(ok+"X-A", silence)),
		hangs("drips headers", raw(ok, forever("X-A: b\r\n", 100*time.Millisecond))),
		hangs("only sends 100 Continue", raw("HTTP/1.1 100 Continue\r\n\r\n", silence)),
		{"is slow", sleepy(2 * time.Second), http.StatusOK, "", 2 * time.Second, 2*time.Second + quick},

		failed("closes the connection", raw("", nil)),
		failed("500", status(http.StatusInternalServerError)),
		failed("429", status(http.StatusTooManyRequests)),
		failed("closes the connection within the headers", raw(ok+"Content-Le", nil)),
		failed("random bytes", raw("", noise(64<<10))),
		failed("endless random bytes", raw("", noise(1<<40))),
		failed("endless status line", raw("HTTP/1.1 2", forever("0", 0))),
		failed("endless headers", raw(ok, forever("X-A: b\r\n", 0))),
		failed("endless header", raw(ok+"X-A: ", forever("a", 0))),
		failed("HTTP/0.9", raw("<html>accepted</html>", nil)),
		failed("another protocol", raw("+OK POP3 server ready\r\n", nil)),
		failed("status 0", raw("HTTP/1.1 000 Nothing\r\n\r\n", nil)),
		failed("status 999", raw("HTTP/1.1 999 Beyond\r\nConnection: close\r\n\r\n", nil)),
		failed("101", raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", forever("x", 0))),
		failed("endless 100 Continue", raw("", forever("HTTP/1.1 100 Continue\r\n\r\n", 0))),
		failed("redirects", redirect(http.StatusFound, elsewhere)),
		failed("redirects with the body", redirect(http.StatusTemporaryRedirect, elsewhere)),

		accepted("200 and 10 MB", raw(ok+"Content-Length: 10485760\r\n\r\n", noise(10<<20))),
		accepted("200 and an endless body", raw(ok+"\r\n", forever("more ", 0))),
		accepted("200 without the announced body", raw(ok+"Content-Length: 1000\r\n\r\n", silence)),
		accepted("200 and half a body", raw(ok+"Content-Length: 1000\r\n\r\nhalf", nil)),
		accepted("200 and broken chunks", raw(ok+"Transfer-Encoding: chunked\r\n\r\nzzz\r\n", nil)),
		accepted("204", status(http.StatusNoContent)),

		{"rejects", status(http.StatusUnprocessableEntity), http.StatusBadRequest, "M_DESTINATION_REJECTED", 0, quick},
	}
}

// TestProvider makes the provider fail in each way after it has received the SMS. The caller must get
// a response within a time limit. If the caller repeats the request, an SMS that was accepted must not
// be sent again, and any other must be sent again with the same ID and code.
func TestProvider(t *testing.T) {
	t.Parallel()
	var strayed atomic.Int64
	elsewhere := newGateway(t, func(message, http.ResponseWriter, *http.Request) { strayed.Add(1) })
	var first sync.Map // the behaviour for the first SMS to a number
	g := newGateway(t, func(m message, w http.ResponseWriter, r *http.Request) {
		if behave, ok := first.LoadAndDelete(m.To); ok {
			behave.(behaviour)(m, w, r)
		}
	})
	s := start(t, "-sms", "webhook:"+g.url)
	rows := faults(elsewhere.url)
	together(len(rows), func(i int) {
		row, p := rows[i], newPerson()
		first.Store(p.number(), row.behave)
		got := p.request(s.url, 1)
		if got.status != row.status || got.errcode != row.errcode || got.took < row.minTime || got.took > row.maxTime {
			t.Errorf("%s: %v; want %d %s after %v to %v", row.name, got, row.status, row.errcode, row.minTime, row.maxTime)
		}
		want := 2
		if row.status == http.StatusOK {
			want = 1
		}
		expectSame(t, row.name, s, g, p, want)
	})
	s.stop()
	g.expectDiscreet(t, s.stderr.String())
	if strayed.Load() > 0 {
		t.Errorf("%d SMS were sent to the target of a redirect", strayed.Load())
	}
}

// expectSame repeats the first attempt with a provider that works. The number must then have the
// wanted number of SMS, all identical, with a valid code.
func expectSame(t *testing.T, name string, s *server, g *gateway, p person, want int) {
	t.Helper()
	again := p.request(s.url, 1)
	messages := g.to(p.number())
	if again.status != http.StatusOK || again.took > quick || len(messages) != want {
		t.Errorf("%s: repeating the attempt: %v; %d SMS, want %d", name, again, len(messages), want)
		return
	}
	for _, m := range messages {
		if m.ID != messages[0].ID || m.Text != messages[0].Text {
			t.Errorf("%s: %+v was sent again as %+v", name, messages[0], m)
		}
	}
	if got := p.submit(s.url, again.sid, messages[0].code()); got.status != http.StatusOK {
		t.Errorf("%s: submit: %v", name, got)
	}
}

// TestProviderUnreachable sends an SMS to a provider that does not listen. The log must contain the
// cause, but not the provider's URL, which may contain a key.
func TestProviderUnreachable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, "-sms", "webhook:http://"+listener.Addr().String()+"/secret-key")
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := newPerson()
	if got := p.request(s.url, 1); got.status != http.StatusBadGateway || got.errcode != "M_SEND_ERROR" || got.took > quick {
		t.Errorf("%v", got)
	}
	s.stop()
	if log := s.stderr.String(); !strings.Contains(log, "connection refused") || strings.Contains(log, "secret-key") {
		t.Errorf("the log does not contain the cause, or it contains the key:\n%s", log)
	}
}

func status(code int) behaviour {
	return func(_ message, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func sleepy(pause time.Duration) behaviour {
	return func(message, http.ResponseWriter, *http.Request) { time.Sleep(pause) }
}

func redirect(code int, elsewhere string) behaviour {
	return func(_ message, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere, code) }
}

// raw writes bytes to the connection, which need not be valid HTTP, calls rest unless it is nil, and
// closes the connection.
func raw(head string, rest func(net.Conn)) behaviour {
	return func(_ message, w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, head); err == nil && rest != nil {
			rest(conn)
		}
	}
}

// forever writes the words repeatedly until the other side closes the connection.
func forever(words string, pause time.Duration) func(net.Conn) {
	return func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, words); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
}

// silence writes nothing until the other side closes the connection.
func silence(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// noise writes n random bytes.
func noise(n int64) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.CopyN(conn, rand.Reader, n) }
}
