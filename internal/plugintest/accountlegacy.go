package plugintest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// accountLegacyTests are about POST /account/3pid, with which clients of the
// client-server API r0.5 and older add a number.
func accountLegacyTests() []test {
	return []test{
		{"LegacyAdd", testLegacyAdd},
		{"LegacyAddRefusesBadBodies", testLegacyAddRefusesBadBodies},
		{"LegacyAddFails", testLegacyAddFails},
		{"LegacyAddIsMountedWithAdd", testLegacyAddIsMountedWithAdd},
	}
}

func legacy(o *threepid.Options) { o.AllowLegacyClients = true }

// legacyAdd is the request of an r0.5 client: it names its identity server and asks it to bind the
// number.
func (n *node) legacyAdd(userID, sid, clientSecret string) answer {
	n.tb.Helper()
	return n.authed(userID, http.MethodPost, listPath,
		fmt.Sprintf(`{"three_pid_creds":{"id_server":"id.example.org","sid":%q,"client_secret":%q},"bind":true}`, sid, clientSecret))
}

func testLegacyAdd(t *testing.T, open opener) {
	n := start(t, open(t), authenticated, legacy)
	body := request(map[string]any{"id_server": "id.example.org"})
	sid := n.mustRequest(addPath, body).text("sid")
	expect(t, n.legacyAdd(alice, sid, secret), http.StatusForbidden, "M_THREEPID_AUTH_FAILED")
	expectSubmit(t, n.submit(sid, secret, wrong(n.token())), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	expect(t, n.legacyAdd(alice, sid, "another"), http.StatusForbidden, "M_THREEPID_AUTH_FAILED")
	expect(t, n.legacyAdd(alice, "nosuchsid", secret), http.StatusForbidden, "M_THREEPID_AUTH_FAILED")
	now := n.clock.Now().UnixMilli()
	for range 2 {
		expectDone(t, n.legacyAdd(alice, sid, secret), `{}`)
		n.expectNumbers(t, alice, store.Association{MSISDN: msisdn, ValidatedAt: now, AddedAt: now})
	}
	expectDone(t, n.add(alice, sid, secret), `{}`)
	expect(t, n.legacyAdd(bob, sid, secret), http.StatusBadRequest, "M_THREEPID_IN_USE")
	for authorization, errcode := range map[string]string{"": "M_MISSING_TOKEN", "Bearer stale": "M_UNKNOWN_TOKEN"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+listPath, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		expect(t, n.send(req), http.StatusUnauthorized, errcode)
	}

	// The newer endpoint fails in the same way.
	expectDone(t, n.authed(alice, http.MethodPost, deletePath, deleteOurs), deletedBody)
	expect(t, n.add(alice, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	expect(t, n.legacyAdd(alice, sid, secret), http.StatusForbidden, "M_THREEPID_AUTH_FAILED")
}

func testLegacyAddRefusesBadBodies(t *testing.T, open opener) {
	n := start(t, open(t), authenticated, legacy)
	for _, row := range []struct{ body, errcode, names string }{
		{`three_pid_creds`, "M_NOT_JSON", ""},
		{`[]`, "M_BAD_JSON", ""},
		{`{"sid":"a","client_secret":"b"}`, "M_MISSING_PARAM", "three_pid_creds"},
		{`{"three_pid_creds":null}`, "M_MISSING_PARAM", "three_pid_creds"},
		{`{"three_pid_creds":"a"}`, "M_INVALID_PARAM", "three_pid_creds"},
		{`{"three_pid_creds":[{"sid":"a","client_secret":"b"}]}`, "M_INVALID_PARAM", "three_pid_creds"},
		{`{"three_pid_creds":{"sid":"a"}}`, "M_MISSING_PARAM", "client_secret"},
		{`{"three_pid_creds":{"sid":1,"client_secret":"b"}}`, "M_INVALID_PARAM", "sid"},
		{`{"three_pid_creds":{"sid":"a","sid":"b","client_secret":"b"}}`, "M_INVALID_PARAM", "three_pid_creds"},
	} {
		a := n.authed(alice, http.MethodPost, listPath, row.body)
		expect(t, a, http.StatusBadRequest, row.errcode)
		if !strings.Contains(a.text("error"), row.names) {
			t.Errorf("%s: error %q does not name %q", row.body, a.text("error"), row.names)
		}
	}
	expect(t, n.authed(alice, http.MethodPost, listPath, strings.Repeat(" ", 64<<10+1)), http.StatusRequestEntityTooLarge, "M_TOO_LARGE")
}

func testLegacyAddFails(t *testing.T, open opener) {
	var down, late atomic.Bool
	inner := open(t)
	failing := storetest.Failing(inner, func(string) error {
		if down.Load() {
			return errors.New("disk on fire")
		}
		return nil
	})
	router := gin.New()
	router.Use(func(c *gin.Context) {
		if late.Load() {
			withDeadlinePassed(c)
		}
	})
	n := startOn(t, router, both{failing, inner}, smstest.New(), &logs{}, authenticated, legacy)
	late.Store(true)
	expect(t, n.legacyAdd(alice, "sid", secret), http.StatusBadGateway, "M_SEND_ERROR")
	late.Store(false)
	down.Store(true)
	expect(t, n.legacyAdd(alice, "sid", secret), http.StatusInternalServerError, "M_UNKNOWN")
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	expect(t, n.legacyAdd(alice, "sid", secret), http.StatusServiceUnavailable, "M_UNKNOWN")
}

// testLegacyAddIsMountedWithAdd checks that the endpoint is mounted only together with
// /account/3pid/add, and only for hosts that accept such clients.
func testLegacyAddIsMountedWithAdd(t *testing.T, open opener) {
	omit := func(e threepid.Endpoint) func(*threepid.Options) {
		return func(o *threepid.Options) { o.OmitEndpoints = []threepid.Endpoint{e} }
	}
	for name, row := range map[string]struct {
		change []func(*threepid.Options)
		status int
		allow  string
	}{
		"not accepted":     {nil, http.StatusMethodNotAllowed, "GET, OPTIONS"},
		"accepted":         {[]func(*threepid.Options){legacy}, http.StatusForbidden, "GET, POST, OPTIONS"},
		"without add":      {[]func(*threepid.Options){legacy, omit(threepid.EndpointAddNumber)}, http.StatusMethodNotAllowed, "GET, OPTIONS"},
		"without its path": {[]func(*threepid.Options){legacy, omit(threepid.EndpointListNumbers)}, http.StatusNotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t), append(row.change, authenticated)...)
			if a := n.legacyAdd(alice, "sid", secret); a.status != row.status {
				t.Errorf("POST: %d %s, want %d", a.status, a.body, row.status)
			}
			if a := n.do(http.MethodOptions, listPath, "", ""); a.header.Get("Allow") != row.allow {
				t.Errorf("Allow %q, want %q", a.header.Get("Allow"), row.allow)
			}
		})
	}
}
