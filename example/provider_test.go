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

// sendTimeout is Options.SendTimeout, which the example leaves at its default.
const sendTimeout = 10 * time.Second

// fault is a way in which a provider can fail, and what the caller sees of it.
type fault struct {
	name    string
	behave  behaviour
	status  int // of the answer to the caller
	errcode string
	least   time.Duration // what the answer takes
	most    time.Duration
}

const quick = 10 * time.Second // on a machine that does much else

// faults lists them. None leaves a connection to be used again that it then
// spoils: another text that was put on it would be lost, and its row blamed.
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
		hangs("says continue, and no more", raw("HTTP/1.1 100 Continue\r\n\r\n", silence)),
		{"is slow", sleepy(2 * time.Second), http.StatusOK, "", 2 * time.Second, 2*time.Second + quick},

		failed("accepts and hangs up", raw("", nil)),
		failed("accepts and answers 500", status(http.StatusInternalServerError)),
		failed("accepts and answers 429", status(http.StatusTooManyRequests)),
		failed("hangs up within the headers", raw(ok+"Content-Le", nil)),
		failed("random bytes", raw("", noise(64<<10))),
		failed("random bytes for ever", raw("", noise(1<<40))),
		failed("endless status line", raw("HTTP/1.1 2", forever("0", 0))),
		failed("endless headers", raw(ok, forever("X-A: b\r\n", 0))),
		failed("endless header", raw(ok+"X-A: ", forever("a", 0))),
		failed("HTTP/0.9", raw("<html>accepted</html>", nil)),
		failed("another protocol", raw("+OK POP3 server ready\r\n", nil)),
		failed("status 0", raw("HTTP/1.1 000 Nothing\r\n\r\n", nil)),
		failed("status 999", raw("HTTP/1.1 999 Beyond\r\nConnection: close\r\n\r\n", nil)),
		failed("101", raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", forever("x", 0))),
		failed("100 for ever", raw("", forever("HTTP/1.1 100 Continue\r\n\r\n", 0))),
		failed("redirects", redirect(http.StatusFound, elsewhere)),
		failed("redirects with the body", redirect(http.StatusTemporaryRedirect, elsewhere)),

		accepted("200 and 10 MB", raw(ok+"Content-Length: 10485760\r\n\r\n", noise(10<<20))),
		accepted("200 for ever", raw(ok+"\r\n", forever("more ", 0))),
		accepted("200 and a body that never comes", raw(ok+"Content-Length: 1000\r\n\r\n", silence)),
		accepted("200 and half a body", raw(ok+"Content-Length: 1000\r\n\r\nhalf", nil)),
		accepted("200 and broken chunks", raw(ok+"Transfer-Encoding: chunked\r\n\r\nzzz\r\n", nil)),
		accepted("204", status(http.StatusNoContent)),

		{"rejects", status(http.StatusUnprocessableEntity), http.StatusBadRequest, "M_DESTINATION_REJECTED", 0, quick},
	}
}

// TestProvider makes the provider fail in every way after it has received the SMS. The caller gets
// a response in bounded time. An SMS that may have been sent is sent again with the same ID and
// code; one that was accepted is not.
func TestProvider(t *testing.T) {
	t.Parallel()
	var strayed atomic.Int64
	elsewhere := newGateway(t, func(message, http.ResponseWriter, *http.Request) { strayed.Add(1) })
	var first sync.Map // what to do with the first text to a number
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
		if got.status != row.status || got.errcode != row.errcode || got.took < row.least || got.took > row.most {
			t.Errorf("%s: %v; want %d %s after %v to %v", row.name, got, row.status, row.errcode, row.least, row.most)
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
		t.Errorf("%d texts followed a redirect", strayed.Load())
	}
}

// expectSame makes the first attempt again, with a provider that behaves, and
// wants n SMS in all, identical, and a token that is good.
func expectSame(t *testing.T, name string, s *server, g *gateway, p person, want int) {
	t.Helper()
	again := p.request(s.url, 1)
	messages := g.to(p.number())
	if again.status != http.StatusOK || again.took > quick || len(messages) != want {
		t.Errorf("%s: made again: %v; %d texts, want %d", name, again, len(messages), want)
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

// TestProviderGone has nobody listen where the provider was.
func TestProviderGone(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, "-sms", "webhook:http://"+listener.Addr().String()+"/key-of-ours")
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	p := newPerson()
	if got := p.request(s.url, 1); got.status != http.StatusBadGateway || got.errcode != "M_SEND_ERROR" || got.took > quick {
		t.Errorf("%v", got)
	}
	s.stop()
	if log := s.stderr.String(); !strings.Contains(log, "connection refused") || strings.Contains(log, "key-of-ours") {
		t.Errorf("the log does not say why, or says too much:\n%s", log)
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

// raw writes bytes to the connection, however far from HTTP, goes on with rest if
// there is one, and hangs up.
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

// forever writes the words until the other side hangs up.
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

// silence says nothing until the other side hangs up.
func silence(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// noise writes n random bytes.
func noise(n int64) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.CopyN(conn, rand.Reader, n) }
}
