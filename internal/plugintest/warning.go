package plugintest

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
)

// warningTests are about warnings for the operator, at start and later.
func warningTests() []test {
	return []test{
		{"WarnsAtStart", testWarnsAtStart},
		{"SilentWhenAllIsSet", testSilentWhenAllIsSet},
		{"WarnsOfARouterThatTrustsEverybody", testWarnsOfARouterThatTrustsEverybody},
		{"WarnsOnceOfAnUnknownProxy", testWarnsOnceOfAnUnknownProxy},
		{"LogIsAsLoudAsTheFailure", testLogIsAsLoudAsTheFailure},
	}
}

// careful are options that cause no warning, apart from the router.
func careful(o *threepid.Options) {
	o.PublicURL = "https://example.org"
	o.Policy.AllowCountries = []string{"GB"}
	o.Limits = limits.Limits{}
}

// loner is a router that trusts no X-Forwarded-For.
func loner(t *testing.T) *gin.Engine {
	t.Helper()
	router := gin.New()
	if err := router.SetTrustedProxies(nil); err != nil {
		t.Fatal(err)
	}
	return router
}

func testSilentWhenAllIsSet(t *testing.T, open opener) {
	n := startOn(t, loner(t), open(t), smstest.New(), &logs{}, careful)
	if n.logs.String() != "" {
		t.Errorf("log: %s", n.logs)
	}
}

// testWarnsAtStart checks that each oversight has a warning, and nothing else has.
func testWarnsAtStart(t *testing.T, open opener) {
	for name, row := range map[string]struct {
		change func(*threepid.Options)
		says   []string
	}{
		"no public URL":   {func(o *threepid.Options) { o.PublicURL = "" }, []string{"Options.PublicURL"}},
		"no country list": {func(o *threepid.Options) { o.Policy.AllowCountries = nil }, []string{"Options.Policy.AllowCountries"}},
		"no limits":       {func(o *threepid.Options) { o.Limits.Disabled = true }, []string{"Options.Limits.Disabled"}},
		"texts too long": {
			func(o *threepid.Options) { o.Messages.Brand = "A Brand With Many Letters" },
			[]string{"ru Password: 2 (UCS-2)", "70 as UCS-2"},
		},
		"test numbers": {func(o *threepid.Options) {
			o.Policy.TestNumbers = []limits.TestNumber{
				{Number: "+" + msisdn, Code: "123456"},
				{Number: inFrance, Code: "654321", Until: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)},
			}
		}, []string{"test number", "+44770090****", "+3361234****", "2026-07-01"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startOn(t, loner(t), open(t), smstest.New(), &logs{}, careful, row.change)
			log := n.logs.String()
			for _, says := range row.says {
				if !strings.Contains(log, says) {
					t.Errorf("the log does not contain %q: %s", says, log)
				}
			}
			want := 1
			if name == "test numbers" {
				want = 2
			}
			if got := strings.Count(log, "level=WARN"); got != want || strings.Count(log, "\n") != want {
				t.Errorf("%d warnings, want %d: %s", got, want, log)
			}
			if strings.Contains(log, "123456") || strings.Contains(log, "654321") || strings.Contains(log, inFrance) {
				t.Errorf("the log contains a code or a number: %s", log)
			}
		})
	}
}

func testWarnsOfARouterThatTrustsEverybody(t *testing.T, open opener) {
	trusting := func(change ...func(*gin.Engine)) *gin.Engine {
		router := gin.New()
		for _, c := range change {
			c(router)
		}
		return router
	}
	proxies := func(list ...string) *gin.Engine {
		router := gin.New()
		if err := router.SetTrustedProxies(list); err != nil {
			t.Fatal(err)
		}
		return router
	}
	client := func(o *threepid.Options) { o.ClientKey = func(*gin.Context) string { return "somebody" } }
	nothing := func(*threepid.Options) {}
	for _, row := range []struct {
		name   string
		router *gin.Engine
		change func(*threepid.Options)
		warned bool
	}{
		{"as gin comes", trusting(), nothing, true},
		{"another header", trusting(func(e *gin.Engine) { e.RemoteIPHeaders = []string{"X-Real-Ip"} }), nothing, true},
		{"no header", trusting(func(e *gin.Engine) { e.ForwardedByClientIP = false }), nothing, false},
		{"all addresses", proxies("0.0.0.0/0"), nothing, true},
		{"no proxy", proxies(), nothing, false},
		{"one proxy", proxies("10.0.0.1"), nothing, false},
		{"the host says who asks", trusting(), client, false},
	} {
		n := startOn(t, row.router, open(t), smstest.New(), &logs{}, careful, row.change)
		if warned := strings.Contains(n.logs.String(), "SetTrustedProxies"); warned != row.warned {
			t.Errorf("%s: warned %v; log: %s", row.name, warned, n.logs)
		}
	}
}

// testWarnsOnceOfAnUnknownProxy sends requests through a proxy that the router does not trust:
// there is one warning, for all endpoints and mounts.
func testWarnsOnceOfAnUnknownProxy(t *testing.T, open opener) {
	forwardedFor := func(n *node, path, client string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+path, strings.NewReader(attempt(1)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", client)
		n.send(req)
	}
	forwarded := func(n *node, path string) { forwardedFor(n, path, "203.0.113.7") }
	off := func(o *threepid.Options) { o.Limits.Disabled = true }
	count := func(n *node) int { return strings.Count(n.logs.String(), "router does not trust") }

	n := startOn(t, loner(t), open(t), smstest.New(), &logs{}, careful, off)
	n.mustRequest(addPath, attempt(1)) // a client without a proxy
	if count(n) != 0 {
		t.Errorf("log: %s", n.logs)
	}
	if err := n.plugin.Mount(n.router, "/again"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		forwarded(n, addPath)
		forwarded(n, "/again"+string(threepid.EndpointRequestTokenAdd))
	}
	if count(n) != 1 || strings.Contains(n.logs.String(), "203.0.113.7") {
		t.Errorf("log: %s", n.logs)
	}

	known := loner(t)
	if err := known.SetTrustedProxies([]string{"127.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	n = startOn(t, known, open(t), smstest.New(), &logs{}, careful, off)
	forwarded(n, addPath)
	forwardedFor(n, addPath, "127.0.0.1") // a client on the proxy's own machine
	if count(n) != 0 {
		t.Errorf("log: %s", n.logs)
	}
}

// testLogIsAsLoudAsTheFailure has a row for each class of docs/PROVIDERS.md: failures that only the
// operator can fix are logged as errors, and an SMS that may have been sent is not logged as
// unsent.
func testLogIsAsLoudAsTheFailure(t *testing.T, open opener) {
	for name, row := range map[string]struct {
		err         error
		says, never string
	}{
		"accepted":      {nil, `level=INFO msg="threepid: SMS accepted`, "level=WARN"},
		"temporary":     {errors.New("down"), `level=WARN msg="threepid: SMS not sent; another try`, "level=ERROR"},
		"rejected":      {sms.ErrRejected, `level=WARN msg="threepid: SMS not sent: the provider cannot reach`, "level=ERROR"},
		"uncertain":     {sms.ErrUncertain, `level=WARN msg="threepid: SMS perhaps sent`, "not sent"},
		"misconfigured": {sms.ErrMisconfigured, `level=ERROR msg="threepid: SMS not sent: the provider refuses the account`, "level=WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startOn(t, loner(t), open(t), sms.Func(func(context.Context, sms.Message) error { return row.err }), &logs{}, careful)
			n.post(addPath, attempt(1))
			if log := n.logs.String(); !strings.Contains(log, row.says) || strings.Contains(log, row.never) {
				t.Errorf("the log must contain %q and not %q: %s", row.says, row.never, log)
			}
		})
	}
}
