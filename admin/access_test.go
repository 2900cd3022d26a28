package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/admin"
)

// paths returns the path of every page and call, and whether it changes something.
func paths() map[string]bool {
	return map[string]bool{
		"GET /": false, "GET /blocks": false, "GET /limits": false, "GET /number": false, "GET /audit": false,
		"POST /number": false, "POST /number/unblock": true, "POST /number/release": true, "POST /number/export": true, "POST /number/erase": true,
		"POST /blocks/lift":      true,
		"GET /api/v1/statistics": false, "GET /api/v1/blocks": false, "GET /api/v1/actions": false, "POST /api/v1/number/explain": false,
		"POST /api/v1/number/unblock": true, "POST /api/v1/number/release": true, "POST /api/v1/number/export": true,
		"POST /api/v1/number/erase": true, "POST /api/v1/blocks/lift": true,
	}
}

// body returns a valid body for a path.
func body(path string) string {
	switch {
	case strings.HasPrefix(path, "/api/v1/number"):
		return `{"number":"` + number + `"}`
	case strings.HasPrefix(path, "/api/"):
		return `{"country":"GB"}`
	}
	return form("number", number, "again", number, "country", "GB")
}

// TestAccess tries each path with each access, and looks at the headers.
func TestAccess(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{})
	for pattern, writes := range paths() {
		method, path, _ := strings.Cut(pattern, " ")
		send := func() response {
			if method == http.MethodGet {
				return h.do(t, method, path, "")
			}
			return h.do(t, method, path, body(path))
		}
		for access, want := range map[admin.Access]bool{admin.None: false, admin.Read: !writes, admin.Write: true} {
			h.access = access
			r := send()
			if allowed := r.status != http.StatusForbidden; allowed != want {
				t.Errorf("%s with access %d: %d", pattern, access, r.status)
			}
			if r.header.Get("Content-Security-Policy") == "" || r.header.Get("X-Content-Type-Options") != "nosniff" ||
				r.header.Get("Cache-Control") != "no-store" || r.header.Get("Referrer-Policy") != "same-origin" {
				t.Errorf("%s: headers %v", pattern, r.header)
			}
			if strings.HasPrefix(path, "/api/") && !json.Valid([]byte(r.body)) {
				t.Errorf("%s: not JSON: %s", pattern, r.body)
			}
		}
	}
	h.access = admin.Read
	if page := h.do(t, http.MethodPost, "/number", form("number", number)); strings.Contains(page.body, "/number/unblock") || !strings.Contains(page.body, "read-only") {
		t.Errorf("a reader is offered actions: %s", page.body)
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{ReadOnly: true})
	for pattern, writes := range paths() {
		method, path, _ := strings.Cut(pattern, " ")
		if method == http.MethodPost {
			if r := h.do(t, method, path, body(path)); (r.status == http.StatusForbidden) != writes {
				t.Errorf("%s: %d", pattern, r.status)
			}
		}
	}
}

// TestOtherSites posts a form with the headers that a browser sends from another site's page.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{})
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		expect(t, fmt.Sprint(header), h.do(t, http.MethodPost, "/number/unblock", form("number", number), header...), http.StatusForbidden, "Another site")
		api := h.do(t, http.MethodPost, "/api/v1/number/unblock", body("/api/v1/number/unblock"), header...)
		if expect(t, fmt.Sprint(header, " in JSON"), api, http.StatusForbidden, "Another site"); !json.Valid([]byte(api.body)) {
			t.Errorf("not JSON: %s", api.body)
		}
	}
	// A browser sends Sec-Fetch-Site to a server with TLS or on its own machine. To others it sends
	// only Origin.
	for _, header := range [][]string{{"Sec-Fetch-Site", "same-origin"}, {"Origin", h.url}} {
		expect(t, fmt.Sprint(header), h.do(t, http.MethodPost, "/number/unblock", form("number", number), header...), http.StatusOK)
	}
	if actions, err := h.plugin.Actions(t.Context(), time.Time{}, 10); err != nil || len(actions) != 4 { // each is followed by explain
		t.Errorf("actions: %+v, %v", actions, err)
	}
}

func TestAPI(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{})
	if err := h.ask(t, number, true); err != nil {
		t.Fatal(err)
	}
	h.pump(t)
	for _, row := range []struct {
		method, path, body string
		status             int
		has                string
	}{
		{http.MethodGet, "/api/v1/statistics", "", http.StatusOK, `"provider": "smstest"`},
		{http.MethodGet, "/api/v1/statistics?from=2026-03-01T00:00:00Z&to=2026-03-01T01:00:00Z", "", http.StatusOK, `"statistics": []`},
		{http.MethodGet, "/api/v1/statistics?from=yesterday", "", http.StatusBadRequest, "RFC 3339"},
		{http.MethodGet, "/api/v1/blocks", "", http.StatusOK, `"range": "44740001"`},
		{http.MethodPost, "/api/v1/number/explain", `{"number":"` + number + `"}`, http.StatusOK, `"type": "validation"`},
		{http.MethodPost, "/api/v1/number/explain", `{"number":"07700900001"}`, http.StatusBadRequest, "E.164"},
		{http.MethodPost, "/api/v1/number/explain", `{"msisdn":"x"}`, http.StatusBadRequest, "JSON object"},
		{http.MethodPost, "/api/v1/number/explain", `{`, http.StatusBadRequest, "JSON object"},
		{http.MethodPost, "/api/v1/number/explain", form("number", number), http.StatusUnsupportedMediaType, "application/json"},
		{http.MethodPost, "/api/v1/number/unblock", `{"number":"` + number + `"}`, http.StatusOK, `"blocks": [`},
		{http.MethodPost, "/api/v1/blocks/lift", `{"range":"44740001"}`, http.StatusOK, "{}"},
		{http.MethodPost, "/api/v1/blocks/lift", `{"range":"44740001"}`, http.StatusNotFound, "no such block"},
		{http.MethodPost, "/api/v1/number/release", `{"number":"` + number + `"}`, http.StatusOK, `"had_account": false`},
		{http.MethodPost, "/api/v1/number/export", `{"number":"` + number + `"}`, http.StatusOK, `"sessions": [`},
		{http.MethodPost, "/api/v1/number/erase", `{"number":"` + number + `"}`, http.StatusOK, "{}"},
		{http.MethodGet, "/api/v1/actions?limit=2", "", http.StatusOK, `"action": "erase"`},
		{http.MethodGet, "/api/v1/actions?limit=0", "", http.StatusBadRequest, "limit"},
		{http.MethodGet, "/api/v1/actions?since=x", "", http.StatusBadRequest, "RFC 3339"},
		{http.MethodGet, "/api/v1/nothing", "", http.StatusNotFound, "error"},
		{http.MethodGet, "/nothing", "", http.StatusNotFound, "no such page"},
		{http.MethodPost, "/api/v1/nothing", "{}", http.StatusNotFound, "error"},
		{http.MethodGet, "/number/unblock", "", http.StatusMethodNotAllowed, "POST requests only"},
		{http.MethodPut, "/number", "", http.StatusMethodNotAllowed, "GET and POST requests only"},
		{http.MethodPost, "/", "a=b", http.StatusMethodNotAllowed, "GET requests only"},
		{http.MethodDelete, "/api/v1/blocks", "", http.StatusMethodNotAllowed, "GET requests only"},
	} {
		r := h.do(t, row.method, row.path, row.body)
		expect(t, row.method+" "+row.path+" "+row.body, r, row.status, row.has)
		if strings.HasPrefix(row.path, "/api/") && !json.Valid([]byte(r.body)) {
			t.Errorf("%s: not JSON: %s", row.path, r.body)
		}
	}
	expect(t, "a long body", h.do(t, http.MethodPost, "/api/v1/number/explain", `{"number":"`+strings.Repeat("1", 20<<10)+`"}`), http.StatusBadRequest)
}

// TestPrefix serves the page below a path of the host's router.
func TestPrefix(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{Prefix: "/ops"})
	expect(t, "a page", h.do(t, http.MethodGet, "/ops/", ""), http.StatusOK, `href="/ops/style.css"`, `href="/ops/blocks"`)
	expect(t, "a form", h.do(t, http.MethodGet, "/ops/number", ""), http.StatusOK, `action="/ops/number"`)
	if r := h.do(t, http.MethodGet, "/blocks", ""); r.status != http.StatusNotFound {
		t.Errorf("without the prefix: %d", r.status)
	}
	for _, o := range []admin.Options{{}, {ReadOnly: true, Prefix: "ops"}, {ReadOnly: true, Prefix: "/ops/"}, {ReadOnly: true, Prefix: "/{x}"}} {
		if _, err := admin.New(h.plugin, o); err == nil {
			t.Errorf("no error for %+v", o)
		}
	}
	if _, err := admin.New(nil, admin.Options{ReadOnly: true}); err == nil {
		t.Error("no error without a plugin")
	}
}

// TestClosed requests pages after the plugin is closed.
func TestClosed(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{})
	if err := h.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/blocks", "/audit", "/api/v1/blocks"} {
		expect(t, path, h.do(t, http.MethodGet, path, ""), http.StatusServiceUnavailable, "shutting down")
	}
	expect(t, "number", h.do(t, http.MethodPost, "/number", form("number", number)), http.StatusServiceUnavailable, "shutting down")
}

// TestNothingKept disables the statistics and the journal.
func TestNothingKept(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{}, func(o *threepid.Options) { o.StatisticsLifetime, o.JournalLifetime = -1, -1 })
	expect(t, "glance", h.do(t, http.MethodGet, "/", ""), http.StatusNotImplemented, "No statistics are kept")
	expect(t, "audit", h.do(t, http.MethodGet, "/audit", ""), http.StatusOK, "No actions are kept")
	expect(t, "number", h.do(t, http.MethodPost, "/number", form("number", number)), http.StatusOK, "No journal is kept")
	expect(t, "statistics", h.do(t, http.MethodGet, "/api/v1/statistics", ""), http.StatusNotImplemented, "no history")
}

// TestAuthorizeOnce counts the calls of Authorize, which may ask another service.
func TestAuthorizeOnce(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	h := start(t, admin.Options{Authorize: func(*http.Request) (string, admin.Access) {
		calls.Add(1)
		return "carol", admin.Read
	}})
	expect(t, "a page", h.do(t, http.MethodGet, "/blocks", ""), http.StatusOK, "carol")
	expect(t, "an action", h.do(t, http.MethodPost, "/number/erase", form("number", number)), http.StatusForbidden)
	if n := calls.Load(); n != 2 {
		t.Errorf("%d calls for two requests", n)
	}
}

// TestOperator checks the audit log with an unusual name of an operator.
func TestOperator(t *testing.T) {
	t.Parallel()
	odd := strings.Repeat("é<b>", 100)
	h := start(t, admin.Options{Authorize: func(*http.Request) (string, admin.Access) { return odd, admin.Write }})
	expect(t, "unblock", h.do(t, http.MethodPost, "/number/unblock", form("number", number)), http.StatusOK)
	actions, err := h.plugin.Actions(context.Background(), time.Time{}, 10)
	if err != nil || len(actions) != 2 || !strings.HasPrefix(odd, actions[0].Operator) || len(actions[0].Operator) < 100 || len(actions[0].Operator) > 128 {
		t.Errorf("actions: %+v, %v", actions, err)
	}
	if page := h.do(t, http.MethodGet, "/audit", ""); strings.Contains(page.body, "<b>") {
		t.Errorf("the page has markup of an operator: %s", page.body)
	}
}
