package contract_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/threepid/internal/plugintest"
	"example.com/threepid/store/memstore"
)

// TestDescription runs the tests of the plugin and compares every exchange with the description.
// Everything in the description must occur.
func TestDescription(t *testing.T) { //nolint:paralleltest // the client's transport is everybody's
	if testing.Short() {
		t.Skip("it runs the plugin's tests once more, which takes a quarter of a minute")
	}
	o := &observer{t: t, next: http.DefaultTransport, description: load(t), specification: loadSpecification(t), met: map[string]int{}}
	http.DefaultTransport = o
	t.Cleanup(func() { http.DefaultTransport = o.next })
	t.Run("Plugin", func(t *testing.T) {
		plugintest.Run(t, func(testing.TB) plugintest.Store { return memstore.New() })
	})
	rows := o.description.rows()
	for _, row := range rows {
		if o.met[row] == 0 {
			t.Errorf("described, and never seen: %s", row)
		}
	}
	for row := range o.met {
		if !slices.Contains(rows, row) {
			t.Errorf("seen, and not described: %s", row)
		}
	}
	t.Logf("%d exchanges, %d rows", o.exchanges, len(rows))
}

const maxComplaints = 20

// exchange is a request and its response, with their bodies.
type exchange struct {
	req  *http.Request
	sent []byte
	res  *http.Response
	got  []byte
}

// observer is the transport of all clients. It checks each exchange.
type observer struct {
	t           *testing.T
	next        http.RoundTripper
	description *description

	specification *specification // of the identity service

	mu         sync.Mutex
	exchanges  int
	complaints int
	met        map[string]int // number of exchanges by row
}

// RoundTrip implements [http.RoundTripper].
func (o *observer) RoundTrip(req *http.Request) (*http.Response, error) {
	x := exchange{req: req}
	if req.Body != nil {
		var err error
		if x.sent, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
		req = req.Clone(req.Context())
		req.Body = io.NopCloser(bytes.NewReader(x.sent))
	}
	res, err := o.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	x.res = res
	if x.got, err = io.ReadAll(res.Body); err != nil {
		return nil, err
	}
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(x.got))
	o.observe(x)
	return res, nil
}

// CloseIdleConnections is what httptest.Server calls.
func (o *observer) CloseIdleConnections() {
	if next, ok := o.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

func (o *observer) observe(x exchange) {
	path, ours := o.description.path(x.req.URL.Path)
	if !ours || x.hosts() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	complain := func(what string, errs []string) {
		if len(errs) > 0 {
			if o.complaints++; o.complaints > maxComplaints {
				return // report each mistake once
			}
			o.t.Errorf("%s %s: %s: %s\nsent %.300s\nanswered %d %.300s",
				x.req.Method, path, what, strings.Join(errs, "\n"), x.sent, x.res.StatusCode, x.got)
		}
	}
	if !o.description.describes(x.req.Method, path) {
		if x.res.StatusCode != http.StatusMethodNotAllowed || x.req.Method != http.MethodHead && x.errcode() != "M_UNRECOGNIZED" {
			complain("a method that is not described", []string{"is served"})
		}
		return
	}
	if !x.malformed() {
		complain("the request", o.description.checkRequest(path, x))
	}
	complain("the answer", o.description.checkAnswer(path, x))
	complain("the answer, by the specification of the identity service", o.specification.check(x))
	o.exchanges++
	o.met[row(x.req.Method, path, strconv.Itoa(x.res.StatusCode), x.errcode())]++
}

func (x exchange) errcode() string {
	var fields struct{ ErrCode string }
	_ = json.Unmarshal(x.got, &fields)
	return fields.ErrCode
}

// hosts reports whether a response is not the plugin's: nothing is mounted at the path, or the host
// of a test refused the request, recovered from a panic, or demanded its own authentication.
func (x exchange) hosts() bool {
	switch x.res.StatusCode {
	case http.StatusTeapot:
		return true
	case http.StatusNotFound:
		return x.errcode() != "M_NO_VALID_SESSION"
	case http.StatusInternalServerError:
		return len(x.got) == 0
	case http.StatusUnauthorized:
		return strings.Contains(string(x.got), `"flows"`)
	}
	return false
}

// malformed reports whether a request was refused for its form, or before the form was checked.
func (x exchange) malformed() bool {
	switch x.res.StatusCode {
	case http.StatusUnauthorized, http.StatusRequestEntityTooLarge, http.StatusMethodNotAllowed:
		return true
	case http.StatusBadRequest:
		return slices.Contains([]string{"", "M_NOT_JSON", "M_BAD_JSON", "M_MISSING_PARAM", "M_INVALID_PARAM", "M_INVALID_ADDRESS"}, x.errcode())
	}
	return false
}
