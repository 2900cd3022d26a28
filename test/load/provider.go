package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// provider is an HTTP server in place of an SMS provider. It accepts each message that the webhook
// sender posts, and keeps the code for the caller that waits for it.
type provider struct {
	server *http.Server
	url    string

	mu    sync.Mutex
	codes map[string]string // by number, with the plus sign
}

func startProvider() (*provider, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &provider{url: "http://" + listener.Addr().String(), codes: map[string]string{}}
	p.server = &http.Server{Handler: http.HandlerFunc(p.accept), ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(listener) }()
	return p, nil
}

func (p *provider) accept(w http.ResponseWriter, r *http.Request) {
	var message struct{ To, Text string }
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.codes[message.To] = code(message.Text)
	p.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// code returns the first run of six digits in a text.
func code(text string) string {
	const digits = 6
	for from := range len(text) - digits + 1 {
		if part := text[from : from+digits]; strings.Trim(part, "0123456789") == "" {
			return part
		}
	}
	return ""
}

// take returns the code that was sent to a number, once.
func (p *provider) take(number string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	code := p.codes[number]
	delete(p.codes, number)
	if code == "" {
		return "", errors.New("the provider has received no code for this number")
	}
	return code, nil
}

func (p *provider) stop() error { return p.server.Close() }
