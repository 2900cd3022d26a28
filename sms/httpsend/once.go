package httpsend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	"example.com/threepid/sms"
)

// unsent is an error of a request that the server has not processed.
type unsent struct {
	cause  error
	reused bool // the connection had carried a request before
}

func (u unsent) Error() string { return u.cause.Error() }

// Unwrap hides a deadline, which callers take to mean that the SMS may have been sent.
func (u unsent) Unwrap() error {
	if errors.Is(u.cause, context.DeadlineExceeded) {
		return nil
	}
	return u.cause
}

// RoundTrip sends a request that a server processes at most once. Its errors may be
// logged. They wrap sms.ErrUncertain unless it is certain that the server has not
// processed the request.
//
// If a pooled connection turns out to be dead before anything was sent, the request is sent
// once more on another.
func RoundTrip(client *http.Client, req *http.Request) (*http.Response, error) {
	res, err := send(client, req)
	failed, ok := errors.AsType[unsent](err)
	if !ok || !failed.reused || req.GetBody == nil && req.Body != nil {
		return res, err
	}
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		body, bodyErr := req.GetBody()
		if bodyErr != nil {
			return res, err
		}
		again.Body = body
	}
	return send(client, again)
}

func send(client *http.Client, req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, unsent{cause: err}
	}
	// A host's own transport may send the request without calling these.
	var traced, reused, written atomic.Bool
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GetConn: func(string) { traced.Store(true) },
		GotConn: func(info httptrace.GotConnInfo) { reused.Store(info.Reused) },
		// Not WroteHeaders: over HTTP/2 that is called when the write returns, which may
		// be after the deadline.
		WroteHeaderField: func(string, []string) { written.Store(true) },
	})
	res, err := client.Do(unrepeatable(req.WithContext(ctx))) //nolint:gosec // the URL is the operator's, never a request's
	switch {
	case err == nil:
		return res, nil
	case traced.Load() && (!written.Load() || notProcessed(err)):
		return nil, unsent{printable(err), reused.Load()}
	default:
		return nil, fmt.Errorf("%w: %w", printable(err), sms.ErrUncertain)
	}
}

// unrepeatable changes req so that net/http does not send it twice. When a server closes a
// used connection without a response, net/http repeats requests that it considers
// idempotent: a GET, or one with an Idempotency-Key. Over HTTP/2 it repeats any request that
// got RST_STREAM with PROTOCOL_ERROR. In all these cases the server may have processed the
// request. net/http repeats none whose body it can read only once.
func unrepeatable(req *http.Request) *http.Request {
	req.GetBody = nil
	if req.Body != nil && req.Body != http.NoBody {
		return req
	}
	switch req.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		if req.Header.Get("Idempotency-Key") == "" && req.Header.Get("X-Idempotency-Key") == "" {
			// A body of unknown length would be sent in chunks, which some gateways refuse.
			// Without a body, HTTP/1.1 repeats nothing that was sent, and HTTP/2 repeats
			// what the server says it did not process, or resets with PROTOCOL_ERROR.
			req.Body = http.NoBody
			return req
		}
	}
	req.Body = io.NopCloser(strings.NewReader("")) // with other methods, HTTP/1.1 sends no empty body
	return req
}

// notProcessed reports whether an HTTP/2 server has said that it did not process the
// request (RFC 9113, section 8.7). net/http has no error value for that, only a text.
func notProcessed(err error) bool {
	return strings.Contains(err.Error(), "REFUSED_STREAM; received from peer") ||
		strings.Contains(err.Error(), "received Server's graceful shutdown GOAWAY")
}
