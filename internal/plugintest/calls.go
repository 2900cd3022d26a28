package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// callTests are about the Go calls that do what the endpoints do.
func callTests() []test {
	return []test{
		{"CallsTakeANumberThrough", testCallsTakeANumberThrough},
		{"CallsFailAsTheEndpointsDo", testCallsFailAsTheEndpointsDo},
		{"CallsAreLimited", testCallsAreLimited},
		{"CallsCheckWhatHTTPWould", testCallsCheckWhatHTTPWould},
		{"CallsWhenTheStoreFails", testCallsWhenTheStoreFails},
		{"CallsAskTheHostsHook", testCallsAskTheHostsHook},
	}
}

// asked is the request to the endpoint as a call.
func asked() threepid.TokenRequest {
	return threepid.TokenRequest{
		Purpose: threepid.PurposeAdd, ClientSecret: secret, Country: "GB", PhoneNumber: spoken, SendAttempt: 1,
	}
}

func testCallsTakeANumberThrough(t *testing.T, open opener) {
	n := start(t, open(t), authenticated)
	ctx := t.Context()
	r := asked()
	r.NextLink, r.AcceptLanguage = "https://example.org/done", "de"
	res, err := n.plugin.RequestToken(ctx, r)
	if err != nil || res.MSISDN != msisdn || res.International != "+44 7700 900001" || res.SID == "" {
		t.Fatalf("%+v, %v", res, err)
	}
	if m, _ := n.sms.Last(); !strings.Contains(m.Text, "ist dein") && !strings.Contains(m.Text, "Bestätigungscode") {
		t.Errorf("SMS %q is not in German", m.Text)
	}
	// A retry sends nothing, neither here nor at the endpoint.
	again, err := n.plugin.RequestToken(ctx, r)
	if err != nil || again != res || n.mustRequest(addPath, attempt(1)).text("sid") != res.SID {
		t.Errorf("a retry: %+v, %v", again, err)
	}
	n.expectTexts(t, 1)
	link, err := n.plugin.SubmitToken(ctx, threepid.TokenSubmission{SID: res.SID, ClientSecret: secret, Token: " " + n.token()})
	if err != nil || link != r.NextLink {
		t.Fatalf("%q, %v", link, err)
	}
	validated := n.clock.Now()
	n.clock.advance(time.Minute)
	if err := n.plugin.AddNumber(ctx, alice, res.SID, secret); err != nil {
		t.Fatal(err)
	}
	list, err := n.plugin.Numbers(ctx, alice)
	if err != nil || len(list) != 1 || list[0] != (threepid.Number{MSISDN: msisdn, ValidatedAt: validated, AddedAt: n.clock.Now()}) {
		t.Errorf("%+v, %v", list, err)
	}
	n.expectNumbers(t, alice, store.Association{MSISDN: msisdn, ValidatedAt: validated.UnixMilli(), AddedAt: n.clock.Now().UnixMilli()})
	for range 2 {
		if err := n.plugin.RemoveNumber(ctx, alice, msisdn); err != nil {
			t.Fatal(err)
		}
	}
	if list, err = n.plugin.Numbers(ctx, alice); err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// same fails the test unless the call failed as the endpoint did.
func same(t *testing.T, name string, err error, a answer) {
	t.Helper()
	var refusal *threepid.Error
	if !errors.As(err, &refusal) {
		t.Errorf("%s: %v, but the endpoint returned %d %s", name, err, a.status, a.body)
		return
	}
	if refusal.Status != a.status || refusal.ErrCode != a.errcode() || refusal.Message != a.text("error") {
		t.Errorf("%s: %+v, but the endpoint returned %d %s", name, refusal, a.status, a.body)
	}
	if ms, _ := a.fields["retry_after_ms"].(float64); int64(ms) != refusal.RetryAfter.Milliseconds() {
		t.Errorf("%s: RetryAfter %v, but the endpoint returned %s", name, refusal.RetryAfter, a.body)
	}
}

func testCallsFailAsTheEndpointsDo(t *testing.T, open opener) {
	n := start(t, open(t), authenticated, func(o *threepid.Options) { o.Policy.DenyCountries = []string{"FR"} })
	n.associate(t, bob, "447700900002")
	paths := map[threepid.Purpose]string{threepid.PurposeAdd: addPath, threepid.PurposeRegister: regPath, threepid.PurposePassword: pwdPath}
	for name, change := range map[string]func(*threepid.TokenRequest){
		"client_secret":  func(r *threepid.TokenRequest) { r.ClientSecret = "no spaces" },
		"country":        func(r *threepid.TokenRequest) { r.Country = "gb" },
		"phone_number":   func(r *threepid.TokenRequest) { r.PhoneNumber = "12" },
		"send_attempt":   func(r *threepid.TokenRequest) { r.SendAttempt = 1 << 53 },
		"next_link":      func(r *threepid.TokenRequest) { r.NextLink = "javascript:alert(1)" },
		"denied":         func(r *threepid.TokenRequest) { r.PhoneNumber = "+33612345678" },
		"in use":         func(r *threepid.TokenRequest) { r.PhoneNumber = "+447700900002" },
		"in use already": func(r *threepid.TokenRequest) { r.PhoneNumber, r.Purpose = "+447700900002", threepid.PurposeRegister },
		"not found":      func(r *threepid.TokenRequest) { r.Purpose = threepid.PurposePassword },
	} {
		r := asked()
		change(&r)
		body := map[string]any{"client_secret": r.ClientSecret, "country": r.Country, "phone_number": r.PhoneNumber, "send_attempt": r.SendAttempt}
		if r.NextLink != "" {
			body["next_link"] = r.NextLink
		}
		_, err := n.plugin.RequestToken(t.Context(), r)
		same(t, name, err, n.post(paths[r.Purpose], request(body)))
	}
	for _, failure := range []error{errors.New("no route"), fmt.Errorf("no such number: %w", sms.ErrRejected)} {
		n.sms.Fail(failure)
		_, err := n.plugin.RequestToken(t.Context(), asked())
		n.sms.Fail(failure)
		same(t, failure.Error(), err, n.post(addPath, attempt(1)))
	}
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	for _, s := range []threepid.TokenSubmission{
		{SID: "nosuchsid", ClientSecret: secret, Token: "123456"},
		{SID: sid, ClientSecret: "another", Token: "123456"},
		{SID: sid, ClientSecret: secret},
	} {
		_, err := n.plugin.SubmitToken(t.Context(), s)
		same(t, fmt.Sprint(s), err, n.submit(s.SID, s.ClientSecret, s.Token))
	}
	_, err := n.plugin.SubmitToken(t.Context(), threepid.TokenSubmission{SID: sid, ClientSecret: secret, Token: wrong(n.token())})
	var refusal *threepid.Error
	if !errors.As(err, &refusal) || refusal.ErrCode != "M_TOKEN_INCORRECT" || refusal.TriesLeft != 4 {
		t.Errorf("a wrong code: %+v", err)
	}
	same(t, "add too early", n.plugin.AddNumber(t.Context(), alice, sid, secret), n.add(alice, sid, secret))
	n.submit(sid, secret, n.token())
	n.associate(t, bob, msisdn)
	same(t, "add a taken number", n.plugin.AddNumber(t.Context(), alice, sid, secret), n.add(alice, sid, secret))
}

// testCallsAreLimited checks that a client's requests count whether they are calls or HTTP.
func testCallsAreLimited(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) {
		o.Limits = limits.Limits{PerClient: []limits.Limit{{Burst: 2, Every: time.Hour}}, WrongCodesPerClient: []limits.Limit{{Burst: 1, Every: time.Hour}}}
	})
	r := asked()
	r.ClientKey = "127.0.0.1"
	res, err := n.plugin.RequestToken(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	n.mustRequest(addPath, attempt(2))
	r.SendAttempt = 3
	_, err = n.plugin.RequestToken(t.Context(), r)
	same(t, "a third SMS", err, n.post(addPath, attempt(3)))
	r.ClientKey = ""
	if _, err := n.plugin.RequestToken(t.Context(), r); err != nil {
		t.Errorf("for no client in particular: %v", err)
	}
	guess := threepid.TokenSubmission{SID: res.SID, ClientSecret: secret, Token: wrong(n.token()), ClientKey: "127.0.0.1"}
	var refusal *threepid.Error
	if _, err := n.plugin.SubmitToken(t.Context(), guess); !errors.As(err, &refusal) || refusal.ErrCode != "M_TOKEN_INCORRECT" {
		t.Errorf("a guess: %v", err)
	}
	_, err = n.plugin.SubmitToken(t.Context(), guess)
	same(t, "a second guess", err, n.submit(res.SID, secret, wrong(n.token())))
}

// testCallsCheckWhatHTTPWould passes values that no HTTP request can contain.
func testCallsCheckWhatHTTPWould(t *testing.T, open opener) {
	n := start(t, open(t))
	ctx := t.Context()
	for _, purpose := range []threepid.Purpose{"", "login"} {
		r := asked()
		r.Purpose = purpose
		if _, err := n.plugin.RequestToken(ctx, r); err == nil || !strings.Contains(err.Error(), "Purpose") {
			t.Errorf("purpose %q: %v", purpose, err)
		}
	}
	for name, change := range map[string]func(*threepid.TokenRequest){
		"a number that is not UTF-8":    func(r *threepid.TokenRequest) { r.PhoneNumber = "07700\xff900001" },
		"a next_link that is not UTF-8": func(r *threepid.TokenRequest) { r.NextLink = "https://example.org/\xff" },
		"a next_link with a NUL":        func(r *threepid.TokenRequest) { r.NextLink = "https://example.org/\x00" },
		"a negative attempt":            func(r *threepid.TokenRequest) { r.SendAttempt = -1 },
	} {
		r := asked()
		change(&r)
		var refusal *threepid.Error
		if _, err := n.plugin.RequestToken(ctx, r); !errors.As(err, &refusal) || refusal.ErrCode != "M_INVALID_PARAM" {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.expectTexts(t, 0)
	sid := n.validatedBy(secret, addPath, 1)
	for _, userID := range []string{"", strings.Repeat("u", 256)} {
		if err := n.plugin.AddNumber(ctx, userID, sid, secret); err == nil || !strings.Contains(err.Error(), "user ID") {
			t.Errorf("a user ID of %d bytes: %v", len(userID), err)
		}
	}
	if err := n.plugin.AddNumber(ctx, alice, sid, secret); err != nil {
		t.Errorf("the validation was redeemed without a caller: %v", err)
	}
}

func testCallsWhenTheStoreFails(t *testing.T, open opener) {
	onFire := errors.New("disk on fire")
	inner := open(t)
	accounts := &failingAccounts{Accounts: inner}
	failing := storetest.Failing(inner, func(string) error { return onFire })
	n := startWith(t, both{failing, inner}, smstest.New(), &logs{}, func(o *threepid.Options) { o.Accounts = accounts })
	const taken = "447700900009"
	n.associate(t, alice, taken)
	accounts.fail(onFire)
	each := func(want error) {
		t.Helper()
		for name, call := range map[string]func(context.Context) error{
			"RequestToken":  func(ctx context.Context) error { _, err := n.plugin.RequestToken(ctx, asked()); return err },
			"Numbers":       func(ctx context.Context) error { _, err := n.plugin.Numbers(ctx, alice); return err },
			"AddNumber":     func(ctx context.Context) error { return n.plugin.AddNumber(ctx, alice, "sid", secret) },
			"RemoveNumber":  func(ctx context.Context) error { return n.plugin.RemoveNumber(ctx, alice, taken) },
			"ReleaseNumber": func(ctx context.Context) error { return n.plugin.ReleaseNumber(ctx, taken) },
			"SubmitToken": func(ctx context.Context) error {
				_, err := n.plugin.SubmitToken(ctx, threepid.TokenSubmission{SID: "sid", ClientSecret: secret, Token: "123456"})
				return err
			},
		} {
			var refusal *threepid.Error
			if err := call(t.Context()); !errors.Is(err, want) || errors.As(err, &refusal) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
	each(onFire)
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	each(threepid.ErrClosed)
}

func testCallsAskTheHostsHook(t *testing.T, open opener) {
	var heard limits.ApprovalRequest
	n := start(t, open(t), func(o *threepid.Options) {
		o.Policy.Approve = func(_ context.Context, r limits.ApprovalRequest) (limits.Approval, error) {
			heard = r
			return limits.Approved, nil
		}
	})
	r := asked()
	r.ClientKey, r.Header = "192.0.2.7", http.Header{"X-Captcha": {"solved"}}
	if _, err := n.plugin.RequestToken(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if heard.Client != "192.0.2.7" || heard.Header.Get("X-Captcha") != "solved" || heard.Purpose != threepid.PurposeAdd {
		got, _ := json.Marshal(heard)
		t.Errorf("the host was asked with %s", got)
	}
}
