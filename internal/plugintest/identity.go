package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/storetest"
)

const (
	identityV1 = "/_matrix/identity/api/v1"
	identityV2 = "/_matrix/identity/v2"

	homeserverToken = "homeserver-token"
)

// identityTests are about the identity service API, which homeservers call.
func identityTests() []test {
	return []test{
		{"IdentityWholeFlow", testIdentityWholeFlow},
		{"IdentityRefusesBadInput", testIdentityRefusesBadInput},
		{"IdentityErrors", testIdentityErrors},
		{"IdentityFailures", testIdentityFailures},
		{"IdentityWrongCodesAreLimited", testIdentityWrongCodesAreLimited},
		{"IdentitySubmit", testIdentitySubmit},
		{"IdentityGetValidated", testIdentityGetValidated},
		{"IdentityTokens", testIdentityTokens},
		{"IdentityPaths", testIdentityPaths},
		{"IdentitySecretPath", testIdentitySecretPath},
		{"IdentityNeedsAStatement", testIdentityNeedsAStatement},
		{"IdentityAddsNothingHere", testIdentityAddsNothingHere},
		{"IdentityUsersShareAnAddress", testIdentityUsersShareAnAddress},
		{"IdentityNumberOfTwoHomeservers", testIdentityNumberOfTwoHomeservers},
		{"IdentityGuardBlocksRanges", testIdentityGuardBlocksRanges},
		{"IdentityLanguageOfTheCountry", testIdentityLanguageOfTheCountry},
	}
}

// identity mounts the identity service of a node for homeservers.
func identity(t *testing.T, n *node, change ...func(*threepid.IdentityOptions)) {
	t.Helper()
	o := threepid.IdentityOptions{PrivateListener: true, AccessTokens: []string{"old-token", homeserverToken}}
	for _, c := range change {
		c(&o)
	}
	if err := n.plugin.MountIdentity(n.router, o); err != nil {
		t.Fatal(err)
	}
}

// asHomeserver sends a request with an access token, which the v1 paths ignore.
func (n *node) asHomeserver(method, path, contentType, body string) answer {
	n.tb.Helper()
	req, err := http.NewRequestWithContext(n.tb.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.tb.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("Authorization", "Bearer "+homeserverToken)
	return n.send(req)
}

func (n *node) identityRequest(base, body string) answer {
	n.tb.Helper()
	return n.asHomeserver(http.MethodPost, base+"/validate/msisdn/requestToken", "application/json", body)
}

func (n *node) identitySubmit(base, sid, clientSecret, token string) answer {
	n.tb.Helper()
	body, err := json.Marshal(map[string]string{"sid": sid, "client_secret": clientSecret, "token": token})
	if err != nil {
		n.tb.Fatal(err)
	}
	return n.asHomeserver(http.MethodPost, base+"/validate/msisdn/submitToken", "application/json", string(body))
}

func (n *node) getValidated(base, sid, clientSecret string) answer {
	n.tb.Helper()
	query := url.Values{"sid": {sid}, "client_secret": {clientSecret}}.Encode()
	return n.asHomeserver(http.MethodGet, base+"/3pid/getValidated3pid?"+query, "", "")
}

func onBothVersions(t *testing.T, run func(t *testing.T, base string)) {
	t.Helper()
	for _, base := range []string{identityV1, identityV2} {
		t.Run(strings.TrimPrefix(base, "/_matrix/identity/"), func(t *testing.T) { run(t, base) })
	}
}

func testIdentityWholeFlow(t *testing.T, open opener) {
	onBothVersions(t, func(t *testing.T, base string) {
		n := start(t, open(t))
		identity(t, n)
		n.associate(t, "@alice:example.org", msisdn) // the homeserver's accounts are not this node's
		a := n.identityRequest(base, request(nil))
		expect(t, a, http.StatusOK, "")
		if a.fields["success"] != true || a.text("msisdn") != msisdn || a.text("intl_fmt") != "+44 7700 900001" || a.text("sid") == "" {
			t.Errorf("requestToken: %s", a.body)
		}
		if _, ok := a.fields["submit_url"]; ok {
			t.Errorf("the response has a submit_url: %s", a.body)
		}
		again := n.identityRequest(base, request(nil))
		if again.text("sid") != a.text("sid") {
			t.Errorf("a retry has another sid: %s", again.body)
		}
		n.expectTexts(t, 1)
		expect(t, n.getValidated(base, a.text("sid"), secret), http.StatusBadRequest, "M_SESSION_NOT_VALIDATED")
		expect(t, n.identitySubmit(base, a.text("sid"), secret, n.token()), http.StatusOK, "")
		for range 2 { // a look-up redeems nothing
			v := n.getValidated(base, a.text("sid"), secret)
			want := fmt.Sprintf(`{"medium":"msisdn","address":%q,"validated_at":%d}`, msisdn, n.clock.Now().UnixMilli())
			if v.status != http.StatusOK || v.body != want {
				t.Errorf("getValidated3pid: %d %s, want %s", v.status, v.body, want)
			}
		}
	})
}

// testIdentityRefusesBadInput sends each bad request of requestToken. A bad number has an errcode
// of its own here; id_server is ignored, because this node is the identity server.
func testIdentityRefusesBadInput(t *testing.T, open opener) {
	n := start(t, open(t))
	identity(t, n)
	for _, row := range badRequests() {
		if strings.HasPrefix(row.name, "id_") {
			continue
		}
		errcode := row.errcode
		if errcode == "M_INVALID_PARAM" && row.name != "phone_number a number" &&
			(strings.HasPrefix(row.name, "phone_number") || row.names == "phone_number") {
			errcode = "M_INVALID_ADDRESS"
		}
		for _, base := range []string{identityV1, identityV2} {
			a := n.identityRequest(base, row.body)
			if a.status != http.StatusBadRequest || a.errcode() != errcode || !strings.Contains(a.text("error"), row.names) {
				t.Errorf("%s, %s: %d %s, want %s", base, row.name, a.status, a.body, errcode)
			}
		}
	}
	if calls := n.sms.Calls(); len(calls) > 0 {
		t.Errorf("an SMS was sent: %v", calls)
	}
	a := n.identityRequest(identityV1, strings.Repeat(" ", 65<<10))
	expect(t, a, http.StatusRequestEntityTooLarge, "M_TOO_LARGE")
	ignored := request(map[string]any{"id_server": 1, "id_access_token": 1})
	expect(t, n.identityRequest(identityV1, ignored), http.StatusOK, "")
}

// testIdentityErrors has a row for each failure of a valid request.
func testIdentityErrors(t *testing.T, open opener) {
	once := limits.Limits{PerNumber: []limits.Limit{{Burst: 1, Every: time.Hour}}}
	for name, row := range map[string]struct {
		change  func(*threepid.Options)
		fail    error
		status  int
		errcode string
	}{
		"policy":      {func(o *threepid.Options) { o.Policy.DenyCountries = []string{"GB"} }, nil, http.StatusForbidden, "M_THREEPID_DENIED"},
		"limit":       {func(o *threepid.Options) { o.Limits = once }, nil, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED"},
		"destination": {nil, sms.ErrRejected, http.StatusBadRequest, "M_DESTINATION_REJECTED"},
		"provider":    {nil, sms.ErrMisconfigured, http.StatusBadGateway, "M_SEND_ERROR"},
		"uncertain":   {nil, sms.ErrUncertain, http.StatusBadGateway, "M_SEND_ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			onBothVersions(t, func(t *testing.T, base string) {
				n := start(t, open(t), func(o *threepid.Options) {
					if row.change != nil {
						row.change(o)
					}
				})
				identity(t, n)
				if row.errcode == "M_LIMIT_EXCEEDED" {
					expect(t, n.identityRequest(base, attempt(1)), http.StatusOK, "")
				}
				if row.fail != nil {
					n.sms.FailAlways(row.fail)
				}
				a := n.identityRequest(base, attempt(2))
				expect(t, a, row.status, row.errcode)
				// Synapse passes the body on and drops the headers.
				if _, ok := a.fields["retry_after_ms"]; ok != (row.errcode == "M_LIMIT_EXCEEDED") {
					t.Errorf("retry_after_ms: %s", a.body)
				}
			})
		})
	}
}

// testIdentityFailures makes each endpoint fail: because of the store, because the delegate does
// not respond, and because the plugin is closed.
func testIdentityFailures(t *testing.T, open opener) {
	onBothVersions(t, func(t *testing.T, base string) {
		inner, fails := open(t), &atomic.Bool{}
		failing := storetest.Failing(inner, func(string) error {
			if fails.Load() {
				return errors.New("disk on fire")
			}
			return nil
		})
		s := &service{}
		router, late := gin.New(), &atomic.Bool{}
		router.Use(func(c *gin.Context) {
			if late.Load() { // the host's own deadline
				ctx, cancel := context.WithCancel(c.Request.Context())
				cancel()
				c.Request = c.Request.WithContext(ctx)
			}
		})
		n := startOn(t, router, both{failing, inner}, nil, &logs{}, func(o *threepid.Options) { o.Delegate = s })
		identity(t, n)
		sid := n.identityRequest(base, request(nil)).text("sid")
		link := base + "/validate/msisdn/submitToken?" + url.Values{"sid": {sid}, "client_secret": {secret}, "token": {rightToken}}.Encode()
		each := func(status int, errcode string) {
			t.Helper()
			expect(t, n.identitySubmit(base, sid, secret, rightToken), status, errcode)
			if a := n.asHomeserver(http.MethodGet, link, "", ""); a.status != status {
				t.Errorf("the link: %d", a.status)
			}
		}
		late.Store(true)
		each(http.StatusBadGateway, "M_SEND_ERROR")
		late.Store(false)
		s.failWith(errors.New("down"))
		each(http.StatusBadGateway, "M_UNKNOWN")
		fails.Store(true)
		each(http.StatusInternalServerError, "M_UNKNOWN")
		expect(t, n.identityRequest(base, attempt(2)), http.StatusInternalServerError, "M_UNKNOWN")
		expect(t, n.getValidated(base, sid, secret), http.StatusInternalServerError, "M_UNKNOWN")
		if err := n.plugin.Close(); err != nil {
			t.Fatal(err)
		}
		each(http.StatusServiceUnavailable, "M_UNKNOWN")
		expect(t, n.identityRequest(base, attempt(2)), http.StatusServiceUnavailable, "M_UNKNOWN")
		expect(t, n.getValidated(base, sid, secret), http.StatusServiceUnavailable, "M_UNKNOWN")
	})
}

// testIdentityWrongCodesAreLimited checks that wrong codes count for a number, whichever client
// submits them.
func testIdentityWrongCodesAreLimited(t *testing.T, open opener) {
	onBothVersions(t, func(t *testing.T, base string) {
		n := start(t, open(t), func(o *threepid.Options) {
			o.Limits = limits.Limits{WrongCodesPerNumber: []limits.Limit{{Burst: 1, Every: time.Hour}}, ReserveCodes: []limits.Limit{}}
		})
		identity(t, n)
		sid := n.identityRequest(base, request(nil)).text("sid")
		bad := wrong(n.token())
		expect(t, n.identitySubmit(base, sid, secret, bad), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		expect(t, n.identitySubmit(base, sid, secret, bad), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
		link := base + "/validate/msisdn/submitToken?" + url.Values{"sid": {sid}, "client_secret": {secret}, "token": {bad}}.Encode()
		if a := n.asHomeserver(http.MethodGet, link, "", ""); a.status != http.StatusTooManyRequests {
			t.Errorf("the link: %d", a.status)
		}
		path := base + "/validate/msisdn/"
		large := strings.Repeat(" ", 65<<10)
		expect(t, n.asHomeserver(http.MethodPost, path+"submitToken", "application/json", large), http.StatusRequestEntityTooLarge, "M_TOO_LARGE")
		expect(t, n.asHomeserver(http.MethodPost, path+"requestToken", "application/json", large), http.StatusRequestEntityTooLarge, "M_TOO_LARGE")
		for body, errcode := range map[string]string{"{": "M_NOT_JSON", "[]": "M_BAD_JSON"} {
			expect(t, n.asHomeserver(http.MethodPost, path+"submitToken", "application/json", body), http.StatusBadRequest, errcode)
		}
	})
}

func testIdentitySubmit(t *testing.T, open opener) {
	onBothVersions(t, func(t *testing.T, base string) {
		n := start(t, open(t))
		identity(t, n)
		sid := n.identityRequest(base, request(map[string]any{"next_link": "https://example.org/done"})).text("sid")
		path, token := base+"/validate/msisdn/submitToken", n.token()
		form := func(token string) string {
			return url.Values{"sid": {sid}, "client_secret": {secret}, "token": {token}}.Encode()
		}
		expect(t, n.identitySubmit(base, sid, secret, wrong(token)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		expect(t, n.identitySubmit(base, sid, "another", token), http.StatusBadRequest, "M_INVALID_PARAM")
		expect(t, n.identitySubmit(base, sid, secret, ""), http.StatusBadRequest, "M_MISSING_PARAM")
		if a := n.asHomeserver(http.MethodGet, path+"?"+form(wrong(token)), "", ""); a.status != http.StatusBadRequest {
			t.Errorf("a wrong token in a link: %d", a.status)
		}
		expect(t, n.asHomeserver(http.MethodPost, path, "application/x-www-form-urlencoded", form(token)), http.StatusOK, "")
		used := n.identityRequest(base, request(map[string]any{"client_secret": "used-up"})).text("sid")
		code := n.token()
		for range 5 {
			expect(t, n.identitySubmit(base, used, "used-up", wrong(code)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		}
		expect(t, n.identitySubmit(base, used, "used-up", code), http.StatusBadRequest, "M_SESSION_EXPIRED")
		plain := n.identityRequest(base, request(map[string]any{"client_secret": "no-link"})).text("sid")
		query := url.Values{"sid": {plain}, "client_secret": {"no-link"}, "token": {n.token()}}.Encode()
		if a := n.asHomeserver(http.MethodGet, path+"?"+query, "", ""); a.status != http.StatusOK || !strings.Contains(a.body, "<html") {
			t.Errorf("a page: %d", a.status)
		}
		a := n.asHomeserver(http.MethodGet, path+"?"+form(token), "", "")
		if a.status != http.StatusFound || a.header.Get("Location") != "https://example.org/done" {
			t.Errorf("the link: %d to %q", a.status, a.header.Get("Location"))
		}
	})
}

// testIdentityGetValidated has a row for each response of getValidated3pid.
func testIdentityGetValidated(t *testing.T, open opener) {
	onBothVersions(t, func(t *testing.T, base string) {
		n := start(t, open(t))
		identity(t, n)
		sid := n.identityRequest(base, request(nil)).text("sid")
		path := base + "/3pid/getValidated3pid"
		for _, query := range []string{"", "?sid=" + sid, "?client_secret=" + secret, "?sid=&client_secret=" + secret} {
			expect(t, n.asHomeserver(http.MethodGet, path+query, "", ""), http.StatusBadRequest, "M_MISSING_PARAM")
		}
		twice := "?sid=" + sid + "&sid=" + sid + "&client_secret=" + secret
		expect(t, n.asHomeserver(http.MethodGet, path+twice, "", ""), http.StatusBadRequest, "M_INVALID_PARAM")
		expect(t, n.getValidated(base, "unknown", secret), http.StatusNotFound, "M_NO_VALID_SESSION")
		expect(t, n.getValidated(base, sid, "another"), http.StatusNotFound, "M_NO_VALID_SESSION")
		expect(t, n.getValidated(base, sid, secret), http.StatusBadRequest, "M_SESSION_NOT_VALIDATED")
		expect(t, n.identitySubmit(base, sid, secret, n.token()), http.StatusOK, "")
		expect(t, n.getValidated(base, sid, secret), http.StatusOK, "")
		n.clock.advance(25 * time.Hour)
		expect(t, n.getValidated(base, sid, secret), http.StatusBadRequest, "M_SESSION_EXPIRED")
	})
}

// testIdentityTokens checks that the v2 paths refuse a request without a token, and accept each of
// several tokens.
func testIdentityTokens(t *testing.T, open opener) {
	n := start(t, open(t))
	identity(t, n)
	ask := func(path, authorization, query string) answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+path+query, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		return n.send(req)
	}
	validated := identityV2 + "/3pid/getValidated3pid"
	const asked = "?sid=unknown&client_secret=abc"
	for _, path := range []string{validated, identityV2 + "/validate/msisdn/submitToken"} {
		for _, authorization := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic " + homeserverToken, homeserverToken} {
			expect(t, ask(path, authorization, asked), http.StatusUnauthorized, "M_UNAUTHORIZED")
		}
		expect(t, ask(path, "", asked+"&access_token=wrong"), http.StatusUnauthorized, "M_UNAUTHORIZED")
	}
	expect(t, n.do(http.MethodPost, identityV2+"/validate/msisdn/requestToken", "application/json", request(nil)), http.StatusUnauthorized, "M_UNAUTHORIZED")
	expect(t, n.do(http.MethodPost, identityV2+"/validate/msisdn/submitToken", "application/json", "{}"), http.StatusUnauthorized, "M_UNAUTHORIZED")
	n.expectTexts(t, 0)
	for _, authorization := range []string{"Bearer " + homeserverToken, "bearer old-token"} {
		expect(t, ask(validated, authorization, asked), http.StatusNotFound, "M_NO_VALID_SESSION")
	}
	expect(t, ask(validated, "", asked+"&access_token="+homeserverToken), http.StatusNotFound, "M_NO_VALID_SESSION")
	expect(t, ask(identityV1+"/3pid/getValidated3pid", "", asked), http.StatusNotFound, "M_NO_VALID_SESSION")
}

func testIdentityPaths(t *testing.T, open opener) {
	n := start(t, open(t))
	identity(t, n)
	for path, body := range map[string]string{identityV1: "{}", identityV2: "{}", "/_matrix/identity/versions": `"v1.19"`} {
		if a := n.do(http.MethodGet, path, "", ""); a.status != http.StatusOK || !strings.Contains(a.body, body) || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, path := range []string{
		"/_matrix/identity/", "/_matrix/identity/v3", identityV1 + "/", identityV1 + "/validate/email/requestToken",
		identityV2 + "/lookup", identityV2 + "/account/register", identityV1 + "/3pid/bind",
	} {
		expect(t, n.do(http.MethodPost, path, "application/json", "{}"), http.StatusNotFound, "M_UNRECOGNIZED")
		expect(t, n.do(http.MethodGet, path, "", ""), http.StatusNotFound, "M_UNRECOGNIZED")
	}
	a := n.do(http.MethodPut, identityV1+"/validate/msisdn/requestToken", "", "")
	expect(t, a, http.StatusMethodNotAllowed, "M_UNRECOGNIZED")
	if a.header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("Allow: %q", a.header.Get("Allow"))
	}
	for _, base := range []string{identityV1, identityV2} {
		if a := n.do(http.MethodOptions, base+"/validate/msisdn/requestToken", "", ""); a.status != http.StatusNoContent {
			t.Errorf("preflight: %d", a.status)
		}
	}
	// The client-server paths of the node do not know the session.
	expect(t, n.do(http.MethodGet, base+"/3pid/getValidated3pid", "", ""), http.StatusNotFound, "")
}

func testIdentitySecretPath(t *testing.T, open opener) {
	n := start(t, open(t))
	const prefix = "/gWbq2tJx0sVhRk4f"
	identity(t, n, func(o *threepid.IdentityOptions) { *o = threepid.IdentityOptions{SecretPath: prefix} })
	expect(t, n.identityRequest(prefix+identityV1, request(nil)), http.StatusOK, "")
	if a := n.identityRequest(identityV1, request(nil)); a.status != http.StatusNotFound {
		t.Errorf("without the path: %d", a.status)
	}
	expect(t, n.identityRequest(prefix+identityV2, request(nil)), http.StatusUnauthorized, "M_UNAUTHORIZED")
}

// testIdentityNeedsAStatement checks that MountIdentity refuses options that would serve everybody,
// or nobody.
func testIdentityNeedsAStatement(t *testing.T, open opener) {
	n := start(t, open(t))
	for name, row := range map[string]struct {
		options threepid.IdentityOptions
		says    string
	}{
		"nothing":        {threepid.IdentityOptions{}, "PrivateListener"},
		"a short path":   {threepid.IdentityOptions{SecretPath: "/short"}, "SecretPath"},
		"no path":        {threepid.IdentityOptions{SecretPath: "gWbq2tJx0sVhRk4fa"}, "SecretPath"},
		"a wildcard":     {threepid.IdentityOptions{SecretPath: "/gWbq2tJx0sVhRk4f/:a"}, "SecretPath"},
		"an empty token": {threepid.IdentityOptions{AccessTokens: []string{"a", ""}}, "AccessTokens[1]"},
		"a space":        {threepid.IdentityOptions{AccessTokens: []string{"a b"}}, "AccessTokens[0]"},
	} {
		err := n.plugin.MountIdentity(n.router, row.options)
		if err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "gWbq2tJx0sVhRk4f") {
			t.Errorf("%s: %v", name, err)
		}
	}
	identity(t, n, func(o *threepid.IdentityOptions) { o.PrivateListener = false })
	expect(t, n.identityRequest(identityV1, request(nil)), http.StatusNotFound, "M_UNRECOGNIZED")
	if err := n.plugin.MountIdentity(n.router, threepid.IdentityOptions{PrivateListener: true}); err == nil {
		t.Error("it was mounted twice")
	}
	if err := n.plugin.MountIdentity(nil, threepid.IdentityOptions{PrivateListener: true}); err == nil {
		t.Error("it was mounted on nil")
	}
}

// testIdentityAddsNothingHere checks that a homeserver's validation adds no number on this node,
// and that the host can see its purpose.
func testIdentityAddsNothingHere(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	identity(t, n)
	sid := n.identityRequest(identityV1, request(nil)).text("sid")
	expect(t, n.identitySubmit(identityV1, sid, secret, n.token()), http.StatusOK, "")
	body := fmt.Sprintf(`{"sid":%q,"client_secret":%q}`, sid, secret)
	expect(t, n.asHomeserver(http.MethodPost, putPath, "application/json", body), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
	v, err := n.plugin.Validated(t.Context(), sid, secret)
	if err != nil || v.Purpose != threepid.PurposeIdentity {
		t.Errorf("Validated: %+v, %v", v, err)
	}
	// The same client_secret cannot use the proof for another purpose.
	expect(t, n.post(addPath, request(nil)), http.StatusBadRequest, "M_INVALID_PARAM")
	expect(t, n.post(addPath, attempt(2)), http.StatusOK, "")
	expect(t, n.asHomeserver(http.MethodPost, putPath, "application/json", body), http.StatusBadRequest, "M_THREEPID_AUTH_FAILED")
}

// testIdentityUsersShareAnAddress sends requests of 500 users of one homeserver within a minute.
// Each user types a wrong code first: none is refused because of the address they share.
func testIdentityUsersShareAnAddress(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) { o.Limits, o.Guard = limits.Limits{}, limits.Guard{} })
	identity(t, n)
	for i := range 500 {
		n.clock.advance(120 * time.Millisecond)
		number := fmt.Sprintf("+4474%03d%05d", i%250, i*7919%100_000)
		clientSecret := fmt.Sprintf("user-%d", i)
		a := n.identityRequest(identityV1, request(map[string]any{"client_secret": clientSecret, "phone_number": number}))
		if a.status != http.StatusOK {
			t.Fatalf("user %d: %d %s", i, a.status, a.body)
		}
		expect(t, n.identitySubmit(identityV1, a.text("sid"), clientSecret, wrong(n.token())), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		expect(t, n.identitySubmit(identityV1, a.text("sid"), clientSecret, n.token()), http.StatusOK, "")
	}
}

// testIdentityNumberOfTwoHomeservers validates one number for two homeservers, each with a session
// and a code of its own.
func testIdentityNumberOfTwoHomeservers(t *testing.T, open opener) {
	n := start(t, open(t))
	identity(t, n)
	first := n.identityRequest(identityV1, request(map[string]any{"client_secret": "one"})).text("sid")
	code := n.token()
	second := n.identityRequest(identityV2, request(map[string]any{"client_secret": "two"})).text("sid")
	if first == second {
		t.Fatal("both have one session")
	}
	expect(t, n.identitySubmit(identityV1, first, "one", code), http.StatusOK, "")
	expect(t, n.getValidated(identityV2, second, "two"), http.StatusBadRequest, "M_SESSION_NOT_VALIDATED")
	expect(t, n.getValidated(identityV1, first, "one"), http.StatusOK, "")
}

// testIdentityGuardBlocksRanges pumps a range through a homeserver. The range is blocked, and again
// after the first block ends, although the requests have no client.
func testIdentityGuardBlocksRanges(t *testing.T, open opener) {
	var blocks heardBlocks
	n := start(t, open(t), func(o *threepid.Options) {
		o.Guard = limits.Guard{OnBlock: blocks.hear}
	})
	identity(t, n)
	pump := func(from int) (refused bool) {
		for i := from; i < from+60 && !refused; i++ {
			n.clock.advance(30 * time.Second)
			number := fmt.Sprintf("+44740012%04d", i*613%10_000)
			a := n.identityRequest(identityV1, request(map[string]any{"client_secret": fmt.Sprint("s", i), "phone_number": number}))
			refused = a.status == http.StatusTooManyRequests
		}
		return refused
	}
	if !pump(0) {
		t.Fatal("the pump was never refused")
	}
	n.clock.advance(20 * time.Minute) // the first block has ended
	sent := n.sms.Count()
	if !pump(100) {
		t.Error("the pump was not refused again")
	}
	if more := n.sms.Count() - sent; more > 20 {
		t.Errorf("%d SMS until it was blocked again", more)
	}
}

// testIdentityLanguageOfTheCountry expects the SMS in the language of the number's country, unless
// the request asks for another one.
func testIdentityLanguageOfTheCountry(t *testing.T, open opener) {
	n := start(t, open(t))
	identity(t, n)
	for country, row := range map[string]struct{ number, accept, has string }{
		"DE":          {"+4915112345678", "", "Code"},
		"FR":          {"+33612345678", "", "code"},
		"GB":          {"+447400123456", "", "is your"},
		"an English":  {"+4915112345679", "en", "is your"},
		"a satellite": {"+870773111632", "", "is your"},
	} {
		body := request(map[string]any{"client_secret": "in-" + strings.ReplaceAll(country, " ", "-"), "phone_number": row.number})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+identityV1+"/validate/msisdn/requestToken", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		if row.accept != "" {
			req.Header.Set("Accept-Language", row.accept)
		}
		if a := n.send(req); a.status != http.StatusOK {
			if country == "a satellite" && a.status == http.StatusForbidden {
				continue // the default policy
			}
			t.Fatalf("%s: %d %s", country, a.status, a.body)
		}
		m, _ := n.sms.Last()
		english := strings.Contains(m.Text, "is your")
		if english != (row.has == "is your") || smstest.Token(m) == "" {
			t.Errorf("%s: %q", country, m.Text)
		}
	}
}
