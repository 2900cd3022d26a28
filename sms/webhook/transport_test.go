package webhook_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/webhook"
)

// secretParts are the parts of the URLs, secrets and message here that no error may contain.
func secretParts() []string {
	return []string{"k3y", "/path", "hunter2", "447700900001", "123456", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
}

// tellsNothing fails the test if an error contains something that must not be logged.
func tellsNothing(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, secret := range secretParts() {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error has %q: %v", secret, err)
		}
	}
}

// temporary fails the test unless the error means that another try may work.
func temporary(t *testing.T, err error) {
	t.Helper()
	if err == nil || errors.Is(err, sms.ErrRejected) {
		t.Errorf("error %v", err)
	}
	tellsNothing(t, err)
}

// answers is a server that writes raw bytes in response to each request, and keeps the connection
// open until the test ends.
func answers(t *testing.T, raw string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go func() {
				if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.Copy(io.Discard, r.Body)
				}
				_, _ = io.WriteString(conn, raw)
			}()
		}
	}()
	return "http://me:hunter2@" + listener.Addr().String() + "/path?key=k3y"
}

func TestTransportErrors(t *testing.T) {
	t.Parallel()
	// Nothing listens on port 1. A port that was just released may belong to another test by now.
	refused := "me:hunter2@127.0.0.1:1/path?key=k3y"
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	plain := gateway(t, func(http.ResponseWriter, *http.Request) {})
	hangsUp := gateway(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for name, c := range map[string]struct{ url, want string }{
		"refused":             {"http://" + refused, "connection refused"},
		"unknown certificate": {secure.URL + "/path?key=k3y", "certificate"},
		"no TLS":              {strings.Replace(plain, "http:", "https:", 1) + "/path?key=k3y", "HTTP response to HTTPS client"},
		"hangs up":            {hangsUp + "/path?key=k3y", "EOF"},
		"not HTTP":            {answers(t, "123456 k3y /path\r\n\r\n"), "not HTTP"},
		"bad status":          {answers(t, "HTTP/1.1 k3y 123456\r\n\r\n"), "not HTTP"},
		"bad header":          {answers(t, "HTTP/1.1 200 OK\r\n/path k3y\r\n\r\n"), "not HTTP"},
		"bad location":        {answers(t, "HTTP/1.1 302 k3y\r\nLocation: http://[::1/path?key=k3y\r\n\r\n"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := open(t, c.url, webhook.Options{}).Send(t.Context(), message)
			temporary(t, err)
			if err != nil && (!strings.Contains(err.Error(), "127.0.0.1") || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("the error does not tell the host and %q: %v", c.want, err)
			}
		})
	}
}

// TestOddStatus returns statuses that net/http's server does not allow. The data after a 101 is not
// HTTP and has no end.
func TestOddStatus(t *testing.T) {
	t.Parallel()
	const upgrade = "Connection: Upgrade\r\nUpgrade: x\r\n"
	for status, header := range map[string]string{"099": "", "101": upgrade, "600": "", "999": ""} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			url := answers(t, "HTTP/1.1 "+status+" 123456\r\n"+header+"Content-Length: 0\r\n\r\n")
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			err := open(t, url, webhook.Options{}).Send(ctx, message)
			temporary(t, err)
			if ctx.Err() != nil {
				t.Error("waited for what follows the status")
			}
		})
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestForeignTransport uses a caller's transport whose errors contain the URL, as those of a
// wrapped client do.
func TestForeignTransport(t *testing.T) {
	t.Parallel()
	errInner := errors.New("k3y")
	for name, c := range map[string]struct{ fails, is error }{
		"URL in an URL's error": {&url.Error{Op: "Post", URL: "http://h/path?key=k3y", Err: io.EOF}, io.EOF},
		"URL in a text":         {fmt.Errorf("post http://h/path?key=k3y: %w", io.ErrUnexpectedEOF), io.ErrUnexpectedEOF},
		"nothing known":         {errInner, nil},
		"a refusal":             {fmt.Errorf("k3y: %w", sms.ErrRejected), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) { return nil, c.fails })}
			err := open(t, "https://me:hunter2@example.org/path?key=k3y", webhook.Options{Client: client}).Send(t.Context(), message)
			temporary(t, err)
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("error %v, want %v", err, c.is)
			}
		})
	}
}

// TestContext uses gateways that do not respond in time.
func TestContext(t *testing.T) {
	t.Parallel()
	silent := answers(t, "")
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := open(t, silent, webhook.Options{}).Send(ctx, message)
		temporary(t, err)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := open(t, silent, webhook.Options{}).Send(ctx, message)
		temporary(t, err)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("the client's own timeout", func(t *testing.T) {
		t.Parallel()
		client := &http.Client{Timeout: 50 * time.Millisecond}
		err := open(t, silent, webhook.Options{Client: client}).Send(t.Context(), message)
		temporary(t, err)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

func TestTLSHandshakeTimeout(t *testing.T) {
	t.Parallel()
	client := &http.Client{Transport: &http.Transport{TLSHandshakeTimeout: 50 * time.Millisecond}}
	url := strings.Replace(answers(t, ""), "http:", "https:", 1)
	err := open(t, url, webhook.Options{Client: client}).Send(t.Context(), message)
	temporary(t, err)
	if err != nil && !strings.Contains(err.Error(), "timeout") {
		t.Errorf("error %v", err)
	}
}

// TestBodiesWithoutEnd uses gateways that send the status at once and a body without end. The
// status counts, and Send returns before its context ends.
func TestBodiesWithoutEnd(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(w http.ResponseWriter) bool{
		"endless": func(w http.ResponseWriter) bool { _, err := w.Write(make([]byte, 32<<10)); return err == nil },
		"silent":  func(http.ResponseWriter) bool { time.Sleep(10 * time.Millisecond); return true },
	} {
		for status, rejected := range map[int]bool{200: false, 400: true} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				t.Parallel()
				gone := make(chan struct{})
				url := gateway(t, func(w http.ResponseWriter, r *http.Request) {
					defer close(gone)
					w.WriteHeader(status)
					_ = http.NewResponseController(w).Flush()
					for r.Context().Err() == nil && write(w) {
						continue
					}
				})
				begin := time.Now()
				if err := open(t, url, webhook.Options{}).Send(t.Context(), message); errors.Is(err, sms.ErrRejected) != rejected {
					t.Errorf("error %v", err)
				}
				if took := time.Since(begin); took > 5*time.Second {
					t.Errorf("waited %v for a body that says nothing", took)
				}
				select {
				case <-gone:
				case <-time.After(5 * time.Second):
					t.Error("the connection was not dropped")
				}
			})
		}
	}
}

// countedBody is a megabyte that counts the bytes read.
type countedBody struct {
	left   int
	closed bool
}

func (b *countedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

func (b *countedBody) Close() error {
	b.closed = true
	return nil
}

func TestBodiesAreReadInPart(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	body := &countedBody{left: size}
	client := &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: body, Request: r}, nil
	})}
	if err := open(t, "https://example.org", webhook.Options{Client: client}).Send(t.Context(), message); err != nil {
		t.Error(err)
	}
	if read := size - body.left; read > 64<<10 || !body.closed {
		t.Errorf("read %d bytes, closed: %v", read, body.closed)
	}
}

// A gateway that read a message and closed the connection may have sent the SMS: the message must
// not be sent again automatically.
func TestNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	var received atomic.Int64
	url := gateway(t, func(w http.ResponseWriter, _ *http.Request) {
		if received.Add(1)%2 == 0 { // on a connection that worked before
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_ = conn.Close()
			}
		}
	})
	s := open(t, url, webhook.Options{})
	for round := range int64(10) {
		if err := s.Send(t.Context(), message); err != nil {
			t.Fatal(err)
		}
		temporary(t, s.Send(t.Context(), message))
		if n := received.Load(); n != 2*(round+1) {
			t.Fatalf("the gateway got %d messages after %d were sent", n, 2*(round+1))
		}
	}
}

// A connection that the gateway closes while it is idle must not lose an SMS.
func TestIdleConnectionsClosed(t *testing.T) {
	t.Parallel()
	var received atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		received.Add(1)
	}))
	t.Cleanup(server.Close)
	s := open(t, server.URL, webhook.Options{})
	const rounds = 20
	uncertain := 0
	for round := range int64(rounds) {
		for {
			err := s.Send(t.Context(), message)
			if err == nil {
				break
			}
			if uncertain++; !errors.Is(err, sms.ErrUncertain) || uncertain > rounds/2 {
				t.Fatalf("round %d, after %d sends over a closed connection: %v", round, uncertain, err)
			}
		}
		server.CloseClientConnections()
		time.Sleep(20 * time.Millisecond) // so that the sender usually notices before the next round
		if n := received.Load(); n != round+1 {
			t.Fatalf("the gateway got %d messages after %d", n, round+1)
		}
	}
}
