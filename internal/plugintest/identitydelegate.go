package plugintest

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/delegate/identityserver"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/memstore"
)

// identityDelegateTests make one plugin delegate to another one's identity service.
func identityDelegateTests() []test {
	return []test{
		{"IdentityDelegateWholeFlow", testIdentityDelegateWholeFlow},
		{"IdentityDelegateErrors", testIdentityDelegateErrors},
		{"IdentityDelegateUsedUp", testIdentityDelegateUsedUp},
		{"IdentityDelegateGone", testIdentityDelegateGone},
	}
}

// onBothSides runs a test with a node and the one that it delegates to, for each version.
func onBothSides(t *testing.T, open opener, change func(*threepid.Options), run func(t *testing.T, front, back *node)) {
	t.Helper()
	for name, v1 := range map[string]bool{"v1": true, "v2": false} {
		t.Run(name, func(t *testing.T) {
			back := start(t, memstore.New(), change)
			identity(t, back)
			o := identityserver.Options{BaseURL: back.url, V1: v1, Names: []string{"id.example.org"}}
			if !v1 {
				o.AccessToken = homeserverToken
			}
			service, err := identityserver.New(o)
			if err != nil {
				t.Fatal(err)
			}
			run(t, startDelegated(t, open(t), service, authenticated), back)
		})
	}
}

func testIdentityDelegateWholeFlow(t *testing.T, open opener) {
	onBothSides(t, open, func(*threepid.Options) {}, func(t *testing.T, front, back *node) {
		body := request(map[string]any{"id_server": "id.example.org", "id_access_token": "of the client"})
		sid := front.mustRequest(addPath, body).text("sid")
		front.mustRequest(addPath, body) // a retry
		back.expectTexts(t, 1)
		first := back.token()
		expect(t, front.submit(sid, secret, wrong(first)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		expect(t, front.submit(sid, "another", first), http.StatusBadRequest, "M_INVALID_PARAM")
		front.mustRequest(addPath, strings.Replace(body, `"send_attempt":1`, `"send_attempt":2`, 1))
		back.expectTexts(t, 2)
		if back.token() != first {
			t.Error("a resend within the code's lifetime brought another code")
		}
		expect(t, front.submit(sid, secret, first), http.StatusOK, "")
		expect(t, front.submit(sid, secret, first), http.StatusOK, "")
		v, err := front.plugin.Redeem(t.Context(), sid, secret)
		if err != nil || v.MSISDN != msisdn || v.Purpose != threepid.PurposeAdd {
			t.Errorf("Redeem: %+v, %v", v, err)
		}
		untrusted := strings.Replace(body, "id.example.org", "vector.im", 1)
		expect(t, front.post(regPath, untrusted), http.StatusBadRequest, "M_SERVER_NOT_TRUSTED")
	})
}

// testIdentityDelegateErrors has a row for each refusal of the other node.
func testIdentityDelegateErrors(t *testing.T, open opener) {
	once := limits.Limits{PerNumber: []limits.Limit{{Burst: 1, Every: time.Hour}}}
	for name, row := range map[string]struct {
		change  func(*threepid.Options)
		fail    error
		status  int
		errcode string
	}{
		"no SMS reaches it": {nil, sms.ErrRejected, http.StatusBadRequest, "M_DESTINATION_REJECTED"},
		"provider":          {nil, sms.ErrMisconfigured, http.StatusBadGateway, "M_SEND_ERROR"},
		"limit":             {func(o *threepid.Options) { o.Limits = once }, nil, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED"},
		"policy":            {func(o *threepid.Options) { o.Policy.DenyCountries = []string{"GB"} }, nil, http.StatusBadRequest, "M_DESTINATION_REJECTED"},
	} {
		t.Run(name, func(t *testing.T) {
			onBothSides(t, open, func(o *threepid.Options) {
				if row.change != nil {
					row.change(o)
				}
			}, func(t *testing.T, front, back *node) {
				if row.errcode == "M_LIMIT_EXCEEDED" {
					front.mustRequest(addPath, attempt(1))
				}
				back.sms.FailAlways(row.fail)
				a := front.post(addPath, attempt(2))
				expect(t, a, row.status, row.errcode)
				if row.errcode == "M_LIMIT_EXCEEDED" && a.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			})
		})
	}
}

// testIdentityDelegateUsedUp submits five wrong codes, after which the code is void on both nodes.
func testIdentityDelegateUsedUp(t *testing.T, open opener) {
	onBothSides(t, open, func(*threepid.Options) {}, func(t *testing.T, front, back *node) {
		sid := front.mustRequest(addPath, attempt(1)).text("sid")
		code := back.token()
		for range 5 {
			expect(t, front.submit(sid, secret, wrong(code)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		}
		expect(t, front.submit(sid, secret, code), http.StatusBadRequest, "M_SESSION_EXPIRED")
		front.mustRequest(addPath, attempt(2))
		if back.token() == code {
			t.Error("the used up code was sent again")
		}
		expect(t, front.submit(sid, secret, back.token()), http.StatusOK, "")
	})
}

// testIdentityDelegateGone closes the other node.
func testIdentityDelegateGone(t *testing.T, open opener) {
	onBothSides(t, open, func(*threepid.Options) {}, func(t *testing.T, front, back *node) {
		sid := front.mustRequest(addPath, attempt(1)).text("sid")
		code := smstest.Token(back.sms.Messages()[0])
		if err := back.plugin.Close(); err != nil {
			t.Fatal(err)
		}
		expect(t, front.post(addPath, attempt(2)), http.StatusBadGateway, "M_SEND_ERROR")
		expect(t, front.submit(sid, secret, code), http.StatusBadGateway, "M_UNKNOWN")
	})
}
