package webhook_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/webhook"
)

var message = sms.Message{
	ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", To: "+447700900001", Text: "123456 is your <Example> code.", Country: "GB", Attempt: 2,
}

// gateway is a server with a handler.
func gateway(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A server notices a disconnected client only after it has read the body.
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func open(t *testing.T, url string, o webhook.Options) *webhook.Sender {
	t.Helper()
	sender, err := webhook.New(url, o)
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	url := gateway(t, func(_ http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
	})
	header := http.Header{"Authorization": {"Bearer abc"}, "Content-Type": {"text/plain"}}
	sender := open(t, url+"/send?key=k", webhook.Options{Header: header})
	header.Set("Authorization", "changed")
	if err := sender.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	const want = `{"id":"msg_p5jXN8AQM9LWM0D4loKWxJek","to":"+447700900001","text":"123456 is your <Example> code.","country":"GB","attempt":2}`
	if string(body) != want {
		t.Errorf("body %s, want %s", body, want)
	}
	if got.Method != http.MethodPost || got.RequestURI != "/send?key=k" {
		t.Errorf("%s %s", got.Method, got.RequestURI)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "Authorization": "Bearer abc", "Idempotency-Key": message.ID,
		"User-Agent": "threepid-webhook/1", "Webhook-Signature": "",
	} {
		if got.Header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), want)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		200: "accepted", 202: "accepted", 204: "accepted", 299: "accepted",
		301: "misconfigured", 302: "misconfigured", 304: "misconfigured", 307: "misconfigured",
		401: "misconfigured", 402: "misconfigured", 403: "misconfigured", 404: "misconfigured", 405: "misconfigured", 407: "misconfigured",
		400: "rejected", 406: "rejected", 410: "rejected", 422: "rejected", 499: "rejected",
		408: "temporary", 425: "temporary", 429: "temporary", 500: "temporary", 503: "temporary", 599: "temporary",
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			url := gateway(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
			})
			err := open(t, url+"/path?key=k3y", webhook.Options{}).Send(t.Context(), message)
			got := "accepted"
			switch {
			case errors.Is(err, sms.ErrRejected):
				got = "rejected"
			case errors.Is(err, sms.ErrMisconfigured):
				got = "misconfigured"
			case err != nil:
				got = "temporary"
			}
			if got != want {
				t.Errorf("%s (%v), want %s", got, err, want)
			}
			tellsNothing(t, err)
			if err != nil && !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Errorf("the error does not tell the status: %v", err)
			}
		})
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	target := gateway(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	url := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target, http.StatusTemporaryRedirect)
	})
	own := &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	before := fmt.Sprint(*own)
	for _, o := range []webhook.Options{{}, {Client: own}} {
		err := open(t, url, o).Send(t.Context(), message)
		if err == nil || errors.Is(err, sms.ErrRejected) || !strings.Contains(err.Error(), "redirects are not followed") {
			t.Errorf("error %v", err)
		}
	}
	if elsewhere.Load() > 0 {
		t.Error("the text was sent elsewhere")
	}
	if fmt.Sprint(*own) != before {
		t.Error("the caller's client was changed")
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	var got sync.Map
	url := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.Header.Get("Idempotency-Key")
		if _, twice := got.LoadOrStore(id, true); twice || !strings.HasPrefix(string(body), `{"id":"`+id+`",`) {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	sender := open(t, url, webhook.Options{})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if err := sender.Send(t.Context(), sms.Message{ID: fmt.Sprint("id-", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range 100 {
		if _, ok := got.Load(fmt.Sprint("id-", i)); !ok {
			t.Errorf("message %d did not arrive", i)
		}
	}
}

// TestConnectionsAreReused sends ten times from 32 goroutines, and the responses have bodies that
// the sender must read.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	const senders = 32
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 32<<10))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	sender := open(t, server.URL, webhook.Options{})
	for range 10 {
		var round sync.WaitGroup
		for range senders {
			round.Go(func() {
				if err := sender.Send(t.Context(), message); err != nil {
					t.Error(err)
				}
			})
		}
		round.Wait()
	}
	// A dial whose request takes an idle connection instead is kept for later, hence the slack.
	if n := connections.Load(); n > 3*senders {
		t.Errorf("%d connections for %d senders", n, senders)
	}
}

// TestDeadConnectionPostsOnce uses a gateway that closes used connections. It may have accepted
// the SMS, so the request must not be repeated.
func TestDeadConnectionPostsOnce(t *testing.T) {
	t.Parallel()
	var posts, hangUp atomic.Int64
	var warm sync.WaitGroup
	warm.Add(6)
	url := gateway(t, func(http.ResponseWriter, *http.Request) {
		posts.Add(1)
		if hangUp.Load() == 1 {
			panic(http.ErrAbortHandler)
		}
		warm.Done()
		warm.Wait() // so that there are six connections
	})
	sender := open(t, url, webhook.Options{})
	var sends sync.WaitGroup
	for range 6 {
		sends.Go(func() { _ = sender.Send(t.Context(), message) })
	}
	sends.Wait()
	posts.Store(0)
	hangUp.Store(1)
	if err := sender.Send(t.Context(), message); err == nil {
		t.Error("no error")
	}
	if posts.Load() != 1 {
		t.Errorf("%d posts for one message", posts.Load())
	}
}
