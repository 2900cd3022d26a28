// Package httpcall is how providers are called over HTTP: bounded in time and
// size, without following redirects, with errors that hold no secret, and telling what
// is certain about a request that failed.
package httpcall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/threepid/sms"
)

const mostBody = 64 << 10 // bytes of an answer that are read

// Class is what a provider's answer means for the message.
type Class int

// The classes.
const (
	Accepted      Class = iota
	Temporary           // another try may work; nothing has left
	Rejected            // sms.ErrRejected
	Misconfigured       // sms.ErrMisconfigured
	Uncertain           // sms.ErrUncertain
)

// String is the class in the words of docs/PROVIDERS.md.
func (c Class) String() string {
	return [...]string{"accepted", "temporary", "rejected", "misconfigured", "uncertain"}[c]
}

// Error is nil for Accepted, and else an error of the class that says what
// happened. It must hold nothing secret, and nothing of the message.
func (c Class) Error(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	switch c {
	case Accepted:
		return nil
	case Rejected:
		return fmt.Errorf("%s: %w", text, sms.ErrRejected)
	case Misconfigured:
		return fmt.Errorf("%s: %w", text, sms.ErrMisconfigured)
	case Uncertain:
		return fmt.Errorf("%s: %w", text, sms.ErrUncertain)
	case Temporary:
	}
	return errors.New(text)
}

// OfStatus is what an HTTP status means when the answer tells nothing better.
// What is wrong with the request is never the number's fault: a person who reads the
// log can say better than the person with the telephone.
func OfStatus(status int) Class {
	switch {
	case status >= 200 && status <= 299:
		return Accepted
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return Temporary
	case status >= 300 && status <= 499:
		return Misconfigured
	case status == http.StatusBadGateway, status == http.StatusGatewayTimeout:
		return Uncertain // a proxy in front of the provider has passed the request on
	default:
		return Temporary
	}
}

// Client is a copy of c, or a client with a pool for many sends at once; it
// follows no redirects. Time is limited by the context of each request.
func Client(c *http.Client) *http.Client {
	client := http.Client{Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    64,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}}
	if c != nil {
		client = *c
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

// Answer is what a provider said.
type Answer struct {
	Status int
	Body   []byte // at most 64 KiB of it
}

// Do sends a request and reads the response. What precedes a colon in its
// errors is name.
func Do(client *http.Client, name string, req *http.Request) (Answer, error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	res, err := RoundTrip(client, req.WithContext(ctx))
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode < http.StatusOK { // a 101: no body but the bare connection
		return Answer{Status: res.StatusCode}, nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, mostBody))
	if err != nil {
		return Answer{}, fmt.Errorf("%s: HTTP %d: %w: %w", name, res.StatusCode, printable(err), sms.ErrUncertain)
	}
	return Answer{Status: res.StatusCode, Body: body}, nil
}

// Base checks the beginning of a provider's URLs and returns it without a slash
// at its end. name is said in the error, which does not repeat the URL.
func Base(name, given, otherwise string) (string, error) {
	if given == "" {
		given = otherwise
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
		u.User != nil || strings.ContainsAny(given, "?#") {
		return "", fmt.Errorf("%s: the base URL must be such as https://api.example.com, without user, query and fragment", name)
	}
	return strings.TrimRight(given, "/"), nil
}

// Require says which of the settings, given as pairs of name and value, are
// missing, or cannot be right for their control characters and spaces.
func Require(name string, pairs ...string) error {
	var errs []error
	for i := 0; i+1 < len(pairs); i += 2 {
		switch value := pairs[i+1]; {
		case value == "":
			errs = append(errs, fmt.Errorf("%s: %s is missing", name, pairs[i]))
		case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			errs = append(errs, fmt.Errorf("%s: %s has spaces or control characters", name, pairs[i]))
		}
	}
	return errors.Join(errs...)
}

// Or is the first that is not empty.
func Or(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
