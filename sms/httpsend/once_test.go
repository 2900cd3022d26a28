package httpsend_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

// requests are requests that net/http considers repeatable, and one that it does not.
func requests() map[string]func(tb testing.TB, url string) *http.Request {
	post := func(header string) func(testing.TB, string) *http.Request {
		return func(tb testing.TB, url string) *http.Request {
			tb.Helper()
			req := newRequest(tb, http.MethodPost, url, strings.NewReader("text"))
			if header != "" {
				req.Header.Set(header, "msg_1")
			}
			return req
		}
	}
	return map[string]func(testing.TB, string) *http.Request{
		"GET": func(tb testing.TB, url string) *http.Request {
			tb.Helper()
			return newRequest(tb, http.MethodGet, url, nil)
		},
		"GET with a body": func(tb testing.TB, url string) *http.Request {
			tb.Helper()
			return newRequest(tb, http.MethodGet, url, strings.NewReader("text"))
		},
		"POST":                      post(""),
		"POST with Idempotency-Key": post("Idempotency-Key"),
		"POST with its X- spelling": post("X-Idempotency-Key"),
	}
}

func newRequest(tb testing.TB, method, url string, body io.Reader) *http.Request {
	tb.Helper()
	// net/http repeats a request that every connection refuses until the context ends.
	ctx, cancel := context.WithTimeout(tb.Context(), 5*time.Second)
	tb.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		tb.Fatal(err)
	}
	return req
}

// TestOneRequestForEachCall checks that a request is not repeated if the server closes a used
// connection before it responds.
func TestOneRequestForEachCall(t *testing.T) {
	t.Parallel()
	all := requests()
	// Over HTTP/2 this request may be repeated: see unrepeatable.
	all["POST without a body"] = func(tb testing.TB, url string) *http.Request {
		tb.Helper()
		return newRequest(tb, http.MethodPost, url, nil)
	}
	for name, request := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var count atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if count.Add(1) > 1 {
					panic(http.ErrAbortHandler)
				}
			}))
			defer server.Close()
			client := httpsend.Client(nil)
			if _, err := httpsend.Do(client, "test", request(t, server.URL)); err != nil {
				t.Fatal(err)
			}
			_, err := httpsend.Do(client, "test", request(t, server.URL))
			if got := count.Load(); got != 2 || !errors.Is(err, sms.ErrUncertain) {
				t.Errorf("2 calls made %d requests; error %v, want ErrUncertain", got, err)
			}
		})
	}
}

// What an HTTP/2 server can report about a stream: RFC 9113, section 7.
const (
	h2NoError       = 0x0
	h2ProtocolError = 0x1
	h2RefusedStream = 0x7
)

// TestOneRequestOverHTTP2 lets a server reset a stream. The server may have processed the request
// unless it sends REFUSED_STREAM, or GOAWAY with a lower stream.
func TestOneRequestOverHTTP2(t *testing.T) {
	t.Parallel()
	for name, request := range requests() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newH2(t, func(conn io.Writer, stream uint32) { resetStream(conn, stream, h2ProtocolError) })
			_, err := httpsend.Do(h2Client(), "test", request(t, server.url))
			if got := server.requests.Load(); got != 1 || !errors.Is(err, sms.ErrUncertain) {
				t.Errorf("PROTOCOL_ERROR: %d requests; error %v, want one and ErrUncertain", got, err)
			}

			server = newH2(t, func(conn io.Writer, stream uint32) { resetStream(conn, stream, h2RefusedStream) })
			_, err = httpsend.Do(h2Client(), "test", request(t, server.url))
			if err == nil || errors.Is(err, sms.ErrUncertain) {
				t.Errorf("REFUSED_STREAM: error %v, want one that is not ErrUncertain", err)
			}

			server = newH2(t, func(conn io.Writer, _ uint32) { goAway(conn, 0, h2NoError) })
			_, err = httpsend.Do(h2Client(), "test", request(t, server.url))
			if err == nil || errors.Is(err, sms.ErrUncertain) {
				t.Errorf("GOAWAY: error %v, want one that is not ErrUncertain", err)
			}
		})
	}
}

// TestAnotherConnection checks that a request is sent on another connection if the used one is
// closing.
func TestAnotherConnection(t *testing.T) {
	t.Parallel()
	for name, request := range requests() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newH2(t, func(conn io.Writer, stream uint32) {
				if stream > 1 {
					goAway(conn, 1, h2NoError)
					return
				}
				const endStreamAndHeaders, status200 = 0x5, 0x88
				_, _ = conn.Write([]byte{0, 0, 1, 1, endStreamAndHeaders, 0, 0, 0, 1, status200})
			})
			client := h2Client()
			for range 2 {
				if got, err := httpsend.Do(client, "test", request(t, server.url)); err != nil || got.Status != http.StatusOK {
					t.Errorf("status %d, error %v", got.Status, err)
				}
			}
			if got := server.requests.Load(); got != 3 {
				t.Errorf("2 calls made %d requests, want 3: one was not processed", got)
			}
		})
	}
}

func h2Client() *http.Client {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return httpsend.Client(&http.Client{Transport: &http.Transport{Protocols: &protocols}})
}

// h2Server implements as much of HTTP/2 as the test needs.
type h2Server struct {
	url      string
	requests atomic.Int32
}

func newH2(t *testing.T, respond func(conn io.Writer, stream uint32)) *h2Server {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	server := &h2Server{url: "http://" + listener.Addr().String()}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
			go server.serve(conn, respond)
		}
	}()
	return server
}

// serve responds after the request's END_STREAM flag.
func (s *h2Server) serve(conn net.Conn, respond func(io.Writer, uint32)) {
	const (
		preface                = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
		data, headers, endFlag = 0, 1, 1
	)
	if _, err := io.ReadFull(conn, make([]byte, len(preface))); err != nil {
		return
	}
	writeFrame(conn, 4, 0) // SETTINGS
	for {
		var head [9]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
		if _, err := io.CopyN(io.Discard, conn, length); err != nil {
			return
		}
		if head[3] == headers {
			s.requests.Add(1)
		}
		if (head[3] == headers || head[3] == data) && head[4]&endFlag != 0 {
			respond(conn, binary.BigEndian.Uint32(head[5:]))
		}
	}
}

func writeFrame(w io.Writer, kind byte, stream uint32, payload ...uint32) {
	frame := append([]byte{0, 0, byte(4 * len(payload)), kind, 0}, binary.BigEndian.AppendUint32(nil, stream)...)
	for _, word := range payload {
		frame = binary.BigEndian.AppendUint32(frame, word)
	}
	_, _ = w.Write(frame)
}

func resetStream(w io.Writer, stream, code uint32) { writeFrame(w, 3, stream, code) }

func goAway(w io.Writer, last, code uint32) { writeFrame(w, 7, 0, last, code) }

// TestPostWithoutABody checks that the request is not sent in chunks, because some gateways require
// a Content-Length.
func TestPostWithoutABody(t *testing.T) {
	t.Parallel()
	sent := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { sent <- r }))
	t.Cleanup(server.Close)
	if _, err := httpsend.Do(server.Client(), "test", newRequest(t, http.MethodPost, server.URL, nil)); err != nil {
		t.Fatal(err)
	}
	if r := <-sent; len(r.TransferEncoding) != 0 || r.Header.Get("Content-Length") != "0" {
		t.Errorf("Transfer-Encoding %v, Content-Length %q", r.TransferEncoding, r.Header.Get("Content-Length"))
	}
}
