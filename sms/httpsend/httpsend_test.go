package httpsend_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

// stalling is a connection whose writes, after a signal, arrive but do not return.
type stalling struct {
	net.Conn
	stall   *atomic.Bool
	reached <-chan struct{} // closed when the request has arrived
	over    <-chan struct{}
	end     func() // closes it; may be called twice
}

func (s stalling) Write(b []byte) (int, error) {
	n, err := s.Conn.Write(b)
	if s.stall.Load() {
		select {
		case <-s.reached:
			<-s.over
		case <-time.After(100 * time.Millisecond): // this write was not the request but belongs to HTTP/2
		}
	}
	return n, err
}

func (s stalling) Close() error {
	s.end()
	return s.Conn.Close()
}

// TestArrivedRequestIsUncertain lets a complete request arrive, and its context end before the client
// has finished writing it.
func TestArrivedRequestIsUncertain(t *testing.T) {
	t.Parallel()
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var protocols http.Protocols
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			arrived, reached := make(chan struct{}, 2), make(chan struct{})
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				if r.URL.Path == "/slow" {
					close(reached)
					<-r.Context().Done()
				}
			}))
			server.Config.Protocols = &protocols
			server.Start()
			defer server.Close()
			defer server.CloseClientConnections()
			var stall atomic.Bool
			over := make(chan struct{})
			end := sync.OnceFunc(func() { close(over) })
			defer end()
			transport := &http.Transport{
				Protocols: &protocols,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					conn, err := new(net.Dialer).DialContext(ctx, network, address)
					return stalling{conn, &stall, reached, over, end}, err
				},
			}
			client := httpsend.Client(&http.Client{Transport: transport})
			if err := get(t.Context(), client, server.URL); err != nil {
				t.Fatal(err)
			}
			<-arrived
			stall.Store(true)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-arrived
				time.Sleep(10 * time.Millisecond)
				cancel()
			}()
			if err := get(ctx, client, server.URL+"/slow"); !errors.Is(err, sms.ErrUncertain) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	_, err = httpsend.Do(client, "test", req)
	return err
}

func TestBase(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"https://api.example.com": "https://api.example.com", "http://127.0.0.1:1/v1/": "http://127.0.0.1:1/v1", "": "https://otherwise.example",
	} {
		if got, err := httpsend.BaseURL("test", given, "https://otherwise.example"); err != nil || got != want {
			t.Errorf("%q: %q, %v", given, got, err)
		}
	}
	for _, given := range []string{
		"api.example.com", "ftp://api.example.com", "https://", "https://u:s3cr3t@api.example.com",
		"https://api.example.com?", "https://api.example.com/?key=s3cr3t", "https://api.example.com/#", "https://api.example.com/#x",
	} {
		if got, err := httpsend.BaseURL("test", given, ""); err == nil {
			t.Errorf("%q is %q", given, got)
		}
	}
}
