package httpcall

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

// Unwrap hides that the time was over: a caller would take that for an SMS that
// may have been sent.
func (u unsent) Unwrap() error {
	if errors.Is(u.cause, context.DeadlineExceeded) {
		return nil
	}
	return u.cause
}

// RoundTrip makes a request, and makes sure that a server processes it at most once.
// Its errors may be logged; they wrap sms.ErrUncertain unless the server has
// certainly not processed the request.
//
// A connection that died in the pool is such a case: then the request is made once
// more, on another.
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
	// A host's own transport may not call these, and have sent everything.
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

// unrepeatable changes req so that net/http cannot make it twice. It repeats by
// itself what it takes for idempotent, a GET or what has an Idempotency-Key, when a
// server closes a used connection without a response; over HTTP/2 it repeats
// whatever got RST_STREAM and PROTOCOL_ERROR in response. In all these cases the server may
// have processed the request. It repeats nothing whose body it can read only once.
func unrepeatable(req *http.Request) *http.Request {
	req.GetBody = nil
	if req.Body != nil && req.Body != http.NoBody {
		return req
	}
	switch req.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		if req.Header.Get("Idempotency-Key") == "" && req.Header.Get("X-Idempotency-Key") == "" {
			// A body that may be empty would be sent in chunks, which some gateways refuse.
			// Without one HTTP/1.1 repeats nothing that was sent, and HTTP/2 what the
			// server says that it did not process, or resets with PROTOCOL_ERROR.
			req.Body = http.NoBody
			return req
		}
	}
	req.Body = io.NopCloser(strings.NewReader("")) // for other methods, HTTP/1.1 sends nothing of it
	return req
}

// notProcessed reports whether an HTTP/2 server said so (RFC 9113, 8.7). net/http has
// only words for that.
func notProcessed(err error) bool {
	return strings.Contains(err.Error(), "REFUSED_STREAM; received from peer") ||
		strings.Contains(err.Error(), "received Server's graceful shutdown GOAWAY")
}
