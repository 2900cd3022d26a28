package plugintest

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
)

// hostTests are about the plugin's Go API.
func hostTests() []test {
	return []test{
		{"MountElsewhere", testMountElsewhere},
		{"OmitLeavesNoTrace", testOmitLeavesNoTrace},
		{"OmittedRouteIsTheHosts", testOmittedRouteIsTheHosts},
		{"PreflightsOfAllPathsAreTheHosts", testPreflightsOfAllPathsAreTheHosts},
		{"OptionsAreCopied", testOptionsAreCopied},
		{"ValidatedAndRedeem", testValidatedAndRedeem},
		{"ValidationCountsFor24Hours", testValidationCountsFor24Hours},
		{"CloseWaitsForTheSMS", testCloseWaitsForTheSMS},
	}
}

func testMountElsewhere(t *testing.T, open opener) {
	n := start(t, open(t))
	for _, path := range []string{"/_matrix/client/v3", "/_matrix/client/r0", "/"} {
		if err := n.plugin.Mount(n.router, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.plugin.Mount(n.router, "/_matrix/client/r0"); err == nil {
		t.Error("mounted twice")
	}
	if err := n.plugin.Mount(nil, "/x"); err == nil {
		t.Error("mounted on nothing")
	}
	r0 := "/_matrix/client/r0" + string(threepid.EndpointRequestTokenAdd)
	a := n.mustRequest(r0, attempt(1))
	if want := n.url + "/_matrix/client/r0" + string(threepid.EndpointSubmitToken); a.text("submit_url") != want {
		t.Errorf("submit_url %q, want %q", a.text("submit_url"), want)
	}
	if n.mustRequest(string(threepid.EndpointRequestTokenAdd), attempt(1)).text("sid") != a.text("sid") {
		t.Error("the mounts do not share sessions")
	}
	n.expectTexts(t, 1)
}

func testOmitLeavesNoTrace(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) {
		o.OmitEndpoints = []threepid.Endpoint{threepid.EndpointSubmitToken, threepid.EndpointRequestTokenPassword}
	})
	for _, method := range []string{http.MethodOptions, http.MethodPost, http.MethodGet} {
		if a := n.do(method, pwdPath, "", ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", method, a.status)
		}
	}
}

// testOmittedRouteIsTheHosts makes the host serve an endpoint itself.
func testOmittedRouteIsTheHosts(t *testing.T, open opener) {
	router := gin.New()
	router.POST(regPath, teapot)
	n := startOn(t, router, open(t), smstest.New(), &logs{}, func(o *threepid.Options) {
		o.OmitEndpoints = []threepid.Endpoint{threepid.EndpointRequestTokenRegister}
	})
	if a := n.post(regPath, request(nil)); a.status != http.StatusTeapot {
		t.Errorf("the host's route returned %d", a.status)
	}
	n.mustRequest(addPath, request(nil))
}

// testPreflightsOfAllPathsAreTheHosts makes the host serve preflights of every path.
func testPreflightsOfAllPathsAreTheHosts(t *testing.T, open opener) {
	router := gin.New()
	router.OPTIONS("/*any", teapot)
	n := startOn(t, router, open(t), smstest.New(), &logs{})
	if a := n.do(http.MethodOptions, addPath, "", ""); a.status != http.StatusTeapot {
		t.Errorf("OPTIONS returned %d", a.status)
	}
	n.mustRequest(addPath, request(nil))
}

// teapot is the host's own response.
func teapot(c *gin.Context) { c.String(http.StatusTeapot, "the host's own") }

func testOptionsAreCopied(t *testing.T, open opener) {
	hosts := []string{"App.Example.org"}
	n := start(t, open(t), func(o *threepid.Options) { o.NextLinkHosts = hosts })
	if hosts[0] != "App.Example.org" {
		t.Error("the caller's slice was changed")
	}
	hosts[0] = "evil.example"
	expect(t, n.post(addPath, request(map[string]any{"next_link": "https://evil.example/"})), http.StatusBadRequest, "M_INVALID_PARAM")
}

func testValidatedAndRedeem(t *testing.T, open opener) {
	n := start(t, open(t))
	check := func(step, sid, clientSecret string, want error) {
		t.Helper()
		v, err := n.plugin.Validated(t.Context(), sid, clientSecret)
		if !errors.Is(err, want) {
			t.Errorf("%s: Validated: %v, want %v", step, err, want)
		}
		if want == nil && (v.MSISDN != msisdn || v.Country != "GB" || v.Purpose != store.PurposeAdd || v.SID != sid || !v.ValidatedAt.Equal(n.clock.Now().Truncate(time.Millisecond))) {
			t.Errorf("%s: %+v", step, v)
		}
		if want != nil {
			if v != (threepid.Validation{}) {
				t.Errorf("%s: a validation came with the error: %+v", step, v)
			}
			if _, err := n.plugin.Redeem(t.Context(), sid, clientSecret); !errors.Is(err, want) {
				t.Errorf("%s: Redeem: %v, want %v", step, err, want)
			}
		}
	}
	check("unknown", "nosuchsid", secret, threepid.ErrNoSession)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	check("not submitted", sid, secret, threepid.ErrNotValidated)
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	check("another secret", sid, "another", threepid.ErrNoSession)
	check("validated", sid, secret, nil)
	check("validated, asked again", sid, secret, nil)

	won := make([]error, 50)
	together(len(won), func(i int) { _, won[i] = n.plugin.Redeem(t.Context(), sid, secret) })
	wins := 0
	for _, err := range won {
		if err == nil {
			wins++
		} else if !errors.Is(err, threepid.ErrNoSession) {
			t.Errorf("Redeem: %v", err)
		}
	}
	if wins != 1 {
		t.Errorf("%d of 50 redeemed", wins)
	}
	check("redeemed", sid, secret, threepid.ErrNoSession)
	// The person may open the link again, which is not an error.
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	expect(t, n.submit(sid, secret, wrong(n.token())), http.StatusBadRequest, "M_INVALID_PARAM")
	check("submitted again", sid, secret, threepid.ErrNoSession)

	// The attempt stays seen; a greater one starts a new validation.
	n.mustRequest(addPath, attempt(1))
	n.expectTexts(t, 1)
	old := n.token()
	n.mustRequest(addPath, attempt(2))
	check("asked anew", sid, secret, threepid.ErrNotValidated)
	if n.token() == old {
		t.Error("a redeemed token was sent again")
	}
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	check("validated anew", sid, secret, nil)
}

func testValidationCountsFor24Hours(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	n.clock.advance(9 * time.Minute)
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	n.clock.advance(24*time.Hour - time.Millisecond)
	if _, err := n.plugin.Validated(t.Context(), sid, secret); err != nil {
		t.Errorf("within 24 hours: %v", err)
	}
	n.clock.advance(time.Millisecond)
	if _, err := n.plugin.Validated(t.Context(), sid, secret); !errors.Is(err, threepid.ErrExpired) {
		t.Errorf("after 24 hours: %v", err)
	}
	if _, err := n.plugin.Redeem(t.Context(), sid, secret); !errors.Is(err, threepid.ErrExpired) {
		t.Errorf("after 24 hours: %v", err)
	}
}

// testCloseWaitsForTheSMS calls Close while the provider is sending.
func testCloseWaitsForTheSMS(t *testing.T, open opener) {
	n := start(t, open(t))
	release := n.sms.Hold()
	answered := make(chan answer, 1)
	go func() { answered <- n.post(addPath, attempt(1)) }()
	waitUntil(t, "the provider is asked", func() bool { return len(n.sms.Calls()) == 1 })
	closed := make(chan struct{})
	go func() {
		_ = n.plugin.Close()
		close(closed)
	}()
	waitUntil(t, "requests are refused", func() bool {
		return n.post(addPath, attempt(2)).status == http.StatusServiceUnavailable
	})
	select {
	case <-closed:
		t.Error("Close did not wait for the SMS")
	default:
	}
	release()
	if a := <-answered; a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	<-closed
	expect(t, n.submit("sid", secret, "123456"), http.StatusServiceUnavailable, "M_UNKNOWN")
	if _, err := n.plugin.Validated(t.Context(), "sid", secret); !errors.Is(err, threepid.ErrClosed) {
		t.Errorf("Validated: %v", err)
	}
	if err := n.plugin.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}
