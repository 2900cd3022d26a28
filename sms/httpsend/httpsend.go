// Package httpsend calls SMS providers over HTTP, for packages that implement sms.Sender
// or delegate.Service. A request is bounded in time and size and follows no redirects. The
// server processes it at most once, although net/http repeats some requests by itself.
// Errors contain neither credentials nor the message, and wrap [sms.ErrUncertain] unless it
// is certain that nothing was sent.
//
// A Sender calls [PostForm], [PostJSON] or [Do], maps the provider's own error codes to a
// [Class], falls back to [ClassifyStatus], and returns [Class.Error].
package httpsend

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

const maxBody = 64 << 10 // bytes of a response that are read

// Class is what a provider's response means for the message.
type Class int

// The classes.
const (
	Accepted      Class = iota
	Temporary           // nothing was sent, and another try may work
	Rejected            // sms.ErrRejected: no SMS reaches this number
	Misconfigured       // sms.ErrMisconfigured: the operator must act
	Uncertain           // sms.ErrUncertain: the SMS may have been sent
)

// String returns the class in the words of docs/PROVIDERS.md.
func (c Class) String() string {
	return [...]string{"accepted", "temporary", "rejected", "misconfigured", "uncertain"}[c]
}

// Error returns nil for Accepted, and otherwise an error of the class with this text,
// which must contain no credential and nothing of the message.
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

// ClassifyStatus returns what an HTTP status means if the response says nothing more
// specific. A 4xx is not a rejected number, because it is the operator who can fix the
// request.
func ClassifyStatus(status int) Class {
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

// Client returns a copy of c, or a client with a pool for many requests at once if c is
// nil. It follows no redirects. The context of each request limits its time.
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

// Response is a provider's response.
type Response struct {
	Status int
	Body   []byte // its first 64 KiB
}

// Do sends a request and reads the response. Its errors begin with name.
func Do(client *http.Client, name string, req *http.Request) (Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	res, err := RoundTrip(client, req.WithContext(ctx))
	if err != nil {
		return Response{}, fmt.Errorf("%s: %w", name, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode < http.StatusOK { // a 101, whose body is the bare connection
		return Response{Status: res.StatusCode}, nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		return Response{}, fmt.Errorf("%s: HTTP %d: %w: %w", name, res.StatusCode, printable(err), sms.ErrUncertain)
	}
	return Response{Status: res.StatusCode, Body: body}, nil
}

// BaseURL validates the start of a provider's URLs, or otherwise if given is empty, and
// returns it without a trailing slash. Its error begins with name and does not contain the
// URL, which may hold a password.
func BaseURL(name, given, otherwise string) (string, error) {
	if given == "" {
		given = otherwise
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" ||
		u.User != nil || strings.ContainsAny(given, "?#") {
		return "", fmt.Errorf("%s: the base URL must be an http or https URL without user, query and fragment, such as https://api.example.com", name)
	}
	return strings.TrimRight(given, "/"), nil
}

// ReceiptURL returns an error if a URL for delivery receipts is neither empty nor an absolute http or
// https URL. Its error begins with name and does not contain the URL, which may hold a secret.
func ReceiptURL(name, given string) error {
	if given == "" {
		return nil
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.Contains(given, "#") {
		return fmt.Errorf("%s: the URL of the receipts must be an http or https URL without user and fragment, such as https://example.org/receipts", name)
	}
	return nil
}

// Require returns an error that names each setting which is missing, or which contains
// spaces or control characters. The settings are pairs of name and value.
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
