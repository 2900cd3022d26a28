package plugintest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
)

// accountHostTests are about an account's endpoints and their host: authentication, which endpoints
// are mounted, and what fails.
func accountHostTests() []test {
	return []test{
		{"AccountIsMountedForAuthenticateAlone", testAccountIsMountedForAuthenticateAlone},
		{"AccountOmitted", testAccountOmitted},
		{"AccountMethods", testAccountMethods},
		{"AccountWithoutAUser", testAccountWithoutAUser},
		{"AccountHostAnswersItself", testAccountHostAnswersItself},
		{"AccountHostReadsTheBodyFirst", testAccountHostReadsTheBodyFirst},
		{"AccountThatOnlyLooksUp", testAccountThatOnlyLooksUp},
		{"AccountConcealed", testAccountConcealed},
	}
}

func accountPaths() []string { return []string{listPath, putPath, deletePath} }

func testAccountIsMountedForAuthenticateAlone(t *testing.T, open opener) {
	n := start(t, open(t))
	for _, path := range accountPaths() {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			if a := n.authed(alice, method, path, "{}"); a.status != http.StatusNotFound {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
}

func testAccountOmitted(t *testing.T, open opener) {
	n := start(t, open(t), authenticated, func(o *threepid.Options) {
		o.OmitEndpoints = []threepid.Endpoint{threepid.EndpointAddNumber, threepid.EndpointDeleteNumber}
	})
	n.expectNumbers(t, alice)
	for _, path := range []string{putPath, deletePath} {
		if a := n.authed(alice, http.MethodPost, path, "{}"); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

// testAccountMethods is about preflights and wrong methods, which need no authentication.
func testAccountMethods(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) {
		o.Authenticate = func(c *gin.Context) (string, error) {
			t.Errorf("%s %s asks who it is", c.Request.Method, c.FullPath())
			return alice, nil
		}
	})
	for path, method := range map[string]string{listPath: "GET", putPath: "POST", deletePath: "POST"} {
		preflight := n.do(http.MethodOptions, path, "", "")
		if preflight.status != http.StatusNoContent || preflight.body != "" {
			t.Errorf("OPTIONS %s: %d %s", path, preflight.status, preflight.body)
		}
		for name, want := range corsHeaders {
			if got := preflight.header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("OPTIONS %s: %s is %q", path, name, got)
			}
		}
		for _, other := range []string{"GET", "POST", "PUT", "DELETE", "PATCH"} {
			if other == method {
				continue
			}
			a := n.do(other, path, "", "")
			expect(t, a, http.StatusMethodNotAllowed, "M_UNRECOGNIZED")
			if want := method + ", OPTIONS"; a.header.Get("Allow") != want {
				t.Errorf("%s %s: Allow %q, want %q", other, path, a.header.Get("Allow"), want)
			}
		}
	}
}

func testAccountWithoutAUser(t *testing.T, open opener) {
	leak := errors.New("user database at 10.0.0.7: key s3cr3t")
	n := start(t, open(t), func(o *threepid.Options) {
		authenticated(o)
		known := o.Authenticate
		o.Authenticate = func(c *gin.Context) (string, error) {
			switch c.GetHeader("Authorization") {
			case "Bearer broken":
				return alice, leak
			case "Bearer aborted":
				c.Abort()
			case "Bearer long":
				return strings.Repeat("u", 256), nil
			case "Bearer nobody":
				return "", nil
			}
			return known(c)
		}
	})
	sid := n.validatedBy(secret, addPath, 1)
	bodies := map[string]string{putPath: fmt.Sprintf(`{"sid":%q,"client_secret":%q}`, sid, secret), deletePath: deleteOurs}
	for _, path := range accountPaths() {
		method := http.MethodPost
		if path == listPath {
			method = http.MethodGet
		}
		missing := n.do(method, path, "", bodies[path])
		expect(t, missing, http.StatusUnauthorized, "M_MISSING_TOKEN")
		for name, want := range corsHeaders {
			if missing.header.Get(name) != want {
				t.Errorf("%s is %q", name, missing.header.Get(name))
			}
		}
		expect(t, n.authed("nobody", method, path, bodies[path]), http.StatusUnauthorized, "M_MISSING_TOKEN")
		expect(t, n.authed("stale", method, path, bodies[path]), http.StatusUnauthorized, "M_UNKNOWN_TOKEN")
		for _, token := range []string{"broken", "aborted", "long"} {
			a := n.authed(token, method, path, bodies[path])
			expect(t, a, http.StatusInternalServerError, "M_UNKNOWN")
			if a.text("error") != "Internal server error" {
				t.Errorf("the response reveals the cause: %s", a.body)
			}
		}
	}
	if _, err := n.store.Owner(t.Context(), msisdn); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the number was added all the same: %v", err)
	}
	if !strings.Contains(n.logs.String(), leak.Error()) {
		t.Errorf("the cause is not logged: %s", n.logs.String())
	}
}

// testAccountHostAnswersItself makes the host ask for user-interactive authentication first, which
// reads its part of the body.
func testAccountHostAnswersItself(t *testing.T, open opener) {
	n := start(t, open(t), legacy, func(o *threepid.Options) {
		o.Authenticate = func(c *gin.Context) (string, error) {
			var body struct {
				Auth *struct{ Session string } `json:"auth"`
			}
			raw, err := io.ReadAll(c.Request.Body)
			if err != nil || json.Unmarshal(raw, &body) != nil {
				return "", fmt.Errorf("read %d bytes: %w", len(raw), err)
			}
			if body.Auth == nil {
				c.AbortWithStatusJSON(http.StatusUnauthorized, gin.H{
					"session": "xyz", "params": gin.H{}, "flows": []gin.H{{"stages": []string{"m.login.password"}}},
				})
				return "", threepid.ErrMissingToken
			}
			if body.Auth.Session == "guessed" {
				c.Header("Retry-After", "30")
				c.Header("Content-Type", "application/json")
				c.AbortWithStatusJSON(http.StatusTooManyRequests, gin.H{
					"errcode": "M_LIMIT_EXCEEDED", "error": "Too many passwords. Try again in 30 seconds.", "retry_after_ms": 30_000,
				})
				return "", threepid.ErrUnknownToken
			}
			if body.Auth.Session != "xyz" {
				c.Status(http.StatusTeapot)
				c.Abort()
			}
			return alice, nil
		}
	})
	sid := n.validatedBy(secret, addPath, 1)
	body := fmt.Sprintf(`{"sid":%q,"client_secret":%q}`, sid, secret)
	a := n.authed(alice, http.MethodPost, putPath, body)
	if a.status != http.StatusUnauthorized || a.text("session") != "xyz" || strings.Count(a.body, "{") != 3 || a.errcode() != "" {
		t.Errorf("the host's own response became %d %s", a.status, a.body)
	}
	auth := func(session string) string {
		return strings.TrimSuffix(body, "}") + `,"auth":{"session":"` + session + `"}}`
	}
	expect(t, n.authed(alice, http.MethodPost, putPath, auth("guessed")), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	legacyBody := fmt.Sprintf(`{"three_pid_creds":{"sid":%q,"client_secret":%q},"auth":{"session":"guessed"}}`, sid, secret)
	expect(t, n.authed(alice, http.MethodPost, listPath, legacyBody), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	if a := n.authed(alice, http.MethodPost, putPath, auth("other")); a.status != http.StatusTeapot || a.body != "" {
		t.Errorf("the host's own response became %d %s", a.status, a.body)
	}
	if _, err := n.store.Owner(t.Context(), msisdn); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the number was added all the same: %v", err)
	}
	expectDone(t, n.authed(alice, http.MethodPost, putPath, auth("xyz")), `{}`)
}

// testAccountHostReadsTheBodyFirst makes the host read the body first: it reads no more than the
// limit, and the endpoint reads it too.
func testAccountHostReadsTheBodyFirst(t *testing.T, open opener) {
	var mu sync.Mutex
	var most int
	n := start(t, open(t), func(o *threepid.Options) {
		authenticated(o)
		known := o.Authenticate
		o.Authenticate = func(c *gin.Context) (string, error) {
			body, err := io.ReadAll(c.Request.Body)
			mu.Lock()
			defer mu.Unlock()
			most = max(most, len(body))
			if err != nil {
				return "", err
			}
			return known(c)
		}
	})
	sid := n.validatedBy(secret, addPath, 1)
	body := fmt.Sprintf(`{"sid":%q,"client_secret":%q}`, sid, secret)
	padded := body + strings.Repeat(" ", 64<<10-len(body))
	expect(t, n.authed(alice, http.MethodPost, putPath, padded+" "), http.StatusRequestEntityTooLarge, "M_TOO_LARGE")
	if most != 0 {
		t.Errorf("the host read %d bytes of a body that is too large", most)
	}
	expectDone(t, n.authed(alice, http.MethodPost, putPath, padded), `{}`)
	if most != 64<<10 {
		t.Errorf("the host read %d bytes", most)
	}
	// A body of unknown length.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+deletePath, io.MultiReader(bytes.NewReader([]byte(deleteOurs))))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+alice)
	expectDone(t, n.send(req), deletedBody)
}

// testAccountThatOnlyLooksUp checks that Register refuses what it can detect, and that the log
// reports the rest.
func testAccountThatOnlyLooksUp(t *testing.T, open opener) {
	st := open(t)
	lookUp := store.OwnerFunc(st.Owner)
	opts := threepid.Options{Accounts: lookUp, Logger: (&logs{}).logger()}
	authenticated(&opts)
	_, err := threepid.Register(gin.New(), st, smstest.New(), opts)
	if err == nil || !strings.Contains(err.Error(), "Options.Authenticate") || !strings.Contains(err.Error(), "Options.OmitEndpoints") {
		t.Errorf("error %v", err)
	}
	opts.OmitEndpoints = []threepid.Endpoint{threepid.EndpointListNumbers, threepid.EndpointAddNumber, threepid.EndpointDeleteNumber}
	plugin, err := threepid.Register(gin.New(), st, smstest.New(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := plugin.Close(); err != nil {
		t.Error(err)
	}

	n := start(t, st, authenticated, func(o *threepid.Options) { o.Accounts = struct{ store.Accounts }{lookUp} })
	sid := n.validatedBy(secret, addPath, 1)
	expect(t, n.add(alice, sid, secret), http.StatusInternalServerError, "M_UNKNOWN")
	expect(t, n.authed(alice, http.MethodGet, listPath, ""), http.StatusInternalServerError, "M_UNKNOWN")
	expectDone(t, n.authed(alice, http.MethodPost, deletePath, deleteOurs), deletedBody) // there is nothing to delete
	n.associate(t, alice, msisdn)
	expect(t, n.authed(alice, http.MethodPost, deletePath, deleteOurs), http.StatusInternalServerError, "M_UNKNOWN")
	if got := strings.Count(n.logs.String(), "Options.Accounts only looks numbers up"); got != 3 {
		t.Errorf("said %d times: %s", got, n.logs.String())
	}
	if err := n.plugin.ReleaseNumber(t.Context(), "+"+msisdn); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("Release: %v", err)
	}

	// A request that cannot succeed redeems no validation and voids none.
	n = start(t, st, func(o *threepid.Options) { o.Accounts = lookUp })
	sid = n.validatedBy("another", pwdPath, 1)
	for name, err := range map[string]error{
		"AddNumber":    n.plugin.AddNumber(t.Context(), alice, sid, "another"),
		"RemoveNumber": n.plugin.RemoveNumber(t.Context(), alice, msisdn),
	} {
		if !errors.Is(err, store.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := n.plugin.Redeem(t.Context(), sid, "another"); err != nil {
		t.Errorf("Redeem afterwards: %v", err)
	}
}

// testAccountConcealed checks that an account's endpoints conceal what requestToken conceals.
func testAccountConcealed(t *testing.T, open opener) {
	eachTwins(t, open, func(t *testing.T, tw *twins) {
		real, decoy := tw.request(1)
		sids := map[*node]string{tw.real: real.text("sid"), tw.decoy: decoy.text("sid")}
		add := func(n *node) answer { return n.add(bob, sids[n], secret) }
		tw.each(add)
		tw.each(func(n *node) answer { return n.submit(sids[n], secret, "000000x") })
		a, _ := tw.each(add)
		expect(t, a, http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
		tw.each(func(n *node) answer { return n.authed(bob, http.MethodPost, deletePath, deleteOurs) })
		tw.each(func(n *node) answer { return n.authed(bob, http.MethodGet, listPath, "") })
	}, authenticated)
}

func testAccountRelease(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	release := func() error { return n.plugin.ReleaseNumber(t.Context(), "+44 7700 900001") }
	if err := release(); !errors.Is(err, threepid.ErrNoAccount) {
		t.Errorf("nobody has it: %v", err)
	}
	if err := n.plugin.ReleaseNumber(t.Context(), spoken); err == nil || errors.Is(err, threepid.ErrNoAccount) {
		t.Errorf("no E.164: %v", err)
	}
	sid := n.validatedBy(secret, addPath, 1)
	expectDone(t, n.add(alice, sid, secret), `{}`)
	if err := release(); err != nil {
		t.Fatal(err)
	}
	n.expectNumbers(t, alice)
	if err := release(); !errors.Is(err, threepid.ErrNoAccount) {
		t.Errorf("released twice: %v", err)
	}
	// The former holder does not get the number back with the old proof.
	expect(t, n.add(alice, sid, secret), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	n.clock.advance(time.Second)
	expectDone(t, n.add(bob, n.validatedBy("bobs-secret", addPath, 1), "bobs-secret"), `{}`)

	done := make([]error, 20)
	together(len(done), func(i int) { done[i] = release() })
	released := 0
	for _, err := range done {
		if err == nil {
			released++
		} else if !errors.Is(err, threepid.ErrNoAccount) {
			t.Errorf("Release: %v", err)
		}
	}
	if released != 1 {
		t.Errorf("released %d times", released)
	}
}
