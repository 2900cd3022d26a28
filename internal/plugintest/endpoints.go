package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// endpointTests check what is the same for every endpoint.
func endpointTests() []test {
	return []test{
		{"EachEndpointFailsAlike", testEachEndpointFailsAlike},
		{"EachRequestTokenRefusesAlike", testEachRequestTokenRefusesAlike},
		{"EachRequestTokenHasLimits", testEachRequestTokenHasLimits},
		{"EachSubmitTokenHasLimits", testEachSubmitTokenHasLimits},
	}
}

// operation is a well-formed request.
type operation struct {
	method, path, body string
}

func operations() []operation {
	ops := []operation{
		{http.MethodPost, subPath, `{"sid":"a","client_secret":"b","token":"123456"}`},
		{http.MethodGet, subPath + "?sid=a&client_secret=b&token=123456", ""},
		{http.MethodGet, listPath, ""},
		{http.MethodPost, putPath, `{"sid":"a","client_secret":"b"}`},
		{http.MethodPost, deletePath, deleteOurs},
	}
	for _, path := range []string{addPath, regPath, pwdPath} {
		ops = append(ops, operation{http.MethodPost, path, request(nil)})
	}
	return ops
}

// expectAnswer is expect, except that the response to a link is a page.
func (op operation) expectAnswer(t *testing.T, a answer, status int, errcode string) {
	t.Helper()
	if op.method == http.MethodGet && op.path != listPath {
		expectPage(t, a, status)
		return
	}
	if op.path == subPath {
		expectSubmit(t, a, status, errcode)
	} else {
		expect(t, a, status, errcode)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: headers %v", op.path, a.header)
	}
	for name, want := range corsHeaders {
		if got := a.header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %s is %q", op.path, name, got)
		}
	}
}

// withDeadlinePassed ends the request's context, as a host's own deadline does.
func withDeadlinePassed(c *gin.Context) {
	ctx, cancel := context.WithCancel(c.Request.Context())
	cancel()
	c.Request = c.Request.WithContext(ctx)
}

func testEachEndpointFailsAlike(t *testing.T, open opener) {
	var down, late atomic.Bool
	failure := func(string) error {
		if down.Load() {
			return errors.New("disk on fire at /var/lib/secret")
		}
		return nil
	}
	inner := open(t)
	accounts := &failingAccounts{Accounts: inner}
	router := gin.New()
	router.Use(func(c *gin.Context) {
		if late.Load() {
			withDeadlinePassed(c)
		}
	})
	n := startOn(t, router, both{storetest.Failing(inner, failure), inner}, smstest.New(), &logs{}, authenticated,
		func(o *threepid.Options) { o.Accounts = accounts })
	n.associate(t, alice, msisdn)
	each := func(status int, errcode string) {
		t.Helper()
		for _, op := range operations() {
			if op.path == pwdPath || op.path == deletePath {
				n.associate(t, alice, msisdn)
			} else if err := inner.Dissociate(t.Context(), alice, msisdn); err != nil && !errors.Is(err, store.ErrNotFound) {
				t.Fatal(err)
			}
			op.expectAnswer(t, n.authed(alice, op.method, op.path, op.body), status, errcode)
		}
	}
	for _, op := range operations() {
		path, _, _ := strings.Cut(op.path, "?")
		if a := n.do(http.MethodOptions, path, "", ""); a.status != http.StatusNoContent || a.header.Get("Allow") == "" {
			t.Errorf("OPTIONS %s: %d %v", path, a.status, a.header)
		}
		if op.method == http.MethodPost {
			large := n.authed(alice, op.method, op.path, op.body+strings.Repeat(" ", 64<<10))
			op.expectAnswer(t, large, http.StatusRequestEntityTooLarge, "M_TOO_LARGE")
		}
	}
	late.Store(true)
	each(http.StatusBadGateway, "M_SEND_ERROR")
	late.Store(false)
	down.Store(true)
	accounts.fail(errors.New("disk on fire at /var/lib/secret"))
	each(http.StatusInternalServerError, "M_UNKNOWN")
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	each(http.StatusServiceUnavailable, "M_UNKNOWN")
}

// eachRequestToken runs a test on each of the three paths, with a number that may be validated
// there.
func eachRequestToken(t *testing.T, open opener, run func(t *testing.T, n *node, path string), change ...func(*threepid.Options)) {
	for _, path := range []string{addPath, regPath, pwdPath} {
		t.Run(strings.Join(strings.Split(path, "/")[4:6], " "), func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t), change...)
			if path == pwdPath {
				n.associate(t, alice, msisdn)
			}
			run(t, n, path)
		})
	}
}

func testEachRequestTokenRefusesAlike(t *testing.T, open opener) {
	eachRequestToken(t, open, func(t *testing.T, n *node, path string) {
		const other, taken = "07700900002", "447700900002"
		account := "M_THREEPID_NOT_FOUND"
		if path != pwdPath {
			account = "M_THREEPID_IN_USE"
			n.associate(t, alice, taken)
		}
		with := func(field string, value any) string { return request(map[string]any{field: value}) }
		for _, row := range []struct {
			body    string
			status  int
			errcode string
		}{
			{"client_secret=a", http.StatusBadRequest, "M_NOT_JSON"},
			{"[]", http.StatusBadRequest, "M_BAD_JSON"},
			{with("country", nil), http.StatusBadRequest, "M_MISSING_PARAM"},
			{with("send_attempt", -1), http.StatusBadRequest, "M_INVALID_PARAM"},
			{request(map[string]any{"country": "FR", "phone_number": "0612345678"}), http.StatusForbidden, "M_THREEPID_DENIED"},
			{with("phone_number", other), http.StatusBadRequest, account},
		} {
			expect(t, n.post(path, row.body), row.status, row.errcode)
		}
		n.sms.Fail(fmt.Errorf("no such number: %w", sms.ErrRejected))
		expect(t, n.post(path, attempt(1)), http.StatusBadRequest, "M_DESTINATION_REJECTED")
		n.sms.Fail(errors.New("no route"))
		expect(t, n.post(path, attempt(1)), http.StatusBadGateway, "M_SEND_ERROR")
		n.expectTexts(t, 0)
		n.mustRequest(path, attempt(1))
		n.expectTexts(t, 1)
	}, func(o *threepid.Options) { o.Policy.DenyCountries = []string{"FR"} })
}

func testEachRequestTokenHasLimits(t *testing.T, open opener) {
	eachRequestToken(t, open, func(t *testing.T, n *node, path string) {
		const most = 6 // at once, of one number
		for i := range most {
			n.mustRequest(path, request(map[string]any{"client_secret": fmt.Sprint("secret", i)}))
		}
		a := n.post(path, request(map[string]any{"client_secret": "one-more"}))
		expect(t, a, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
		if a.header.Get("Retry-After") == "" || a.fields["retry_after_ms"] == nil {
			t.Errorf("the response does not say when to try again: %v %s", a.header, a.body)
		}
		n.expectTexts(t, most)
	}, limitedByNumber)
}

// limitedByNumber sends every request from another client, because a client's limits are tighter
// than a number's.
func limitedByNumber(o *threepid.Options) {
	o.Limits = limits.Limits{}
	var clients atomic.Int64
	o.ClientKey = func(*gin.Context) string { return fmt.Sprint("client", clients.Add(1)) }
}

func testEachSubmitTokenHasLimits(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) {
		o.Limits = limits.Limits{WrongCodesPerClient: []limits.Limit{{Burst: 2, Every: time.Minute}}}
	})
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	for range 2 {
		expectPage(t, n.submitGet(sid, secret, wrong(n.token())), http.StatusBadRequest)
	}
	page := n.submitGet(sid, secret, n.token())
	expectPage(t, page, http.StatusTooManyRequests)
	a := n.submit(sid, secret, n.token())
	expectSubmit(t, a, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	if after := page.header.Get("Retry-After"); after == "" || after != a.header.Get("Retry-After") {
		t.Errorf("Retry-After %q and %q", after, a.header.Get("Retry-After"))
	}
}
