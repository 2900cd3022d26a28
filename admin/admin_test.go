package admin_test

import (
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/admin"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

const number = "+447700900001"

// host is a plugin with the operator's pages, on a clock that the test moves.
type host struct {
	plugin *threepid.Plugin
	sender *smstest.Recorder
	store  *memstore.Store
	url    string

	mu     sync.Mutex
	now    time.Time
	access admin.Access
	client int
}

func (h *host) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *host) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func start(t *testing.T, o admin.Options, change ...func(*threepid.Options)) *host {
	t.Helper()
	gin.SetMode(gin.TestMode)
	h := &host{
		sender: smstest.New(), store: memstore.New(), now: time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC), access: admin.Write,
	}
	opts := threepid.Options{Now: h.Now, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, c := range change {
		c(&opts)
	}
	var err error
	if h.plugin, err = threepid.Register(gin.New(), h.store, h.sender, opts); err != nil {
		t.Fatal(err)
	}
	if o.Authorize == nil && !o.ReadOnly {
		o.Authorize = func(*http.Request) (string, admin.Access) { return "carol", h.access }
	}
	page, err := admin.New(h.plugin, o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(page)
	h.url = server.URL
	t.Cleanup(func() {
		server.Close()
		_ = h.plugin.Close()
	})
	return h
}

// ask requests an SMS to a number, as a different client each time, and confirms it if confirm is set.
func (h *host) ask(t *testing.T, to string, confirm bool) error {
	t.Helper()
	h.client++
	secret := fmt.Sprint("secret-", h.client)
	response, err := h.plugin.RequestToken(t.Context(), threepid.TokenRequest{
		Purpose: threepid.PurposeAdd, ClientSecret: secret, PhoneNumber: to, SendAttempt: 1, ClientKey: fmt.Sprintf("2001:db8:%x::1", h.client),
	})
	if err == nil && confirm {
		h.advance(20 * time.Second)
		m, _ := h.sender.Last()
		_, err = h.plugin.SubmitToken(t.Context(), threepid.TokenSubmission{SID: response.SID, ClientSecret: secret, Token: smstest.Token(m)})
	}
	return err
}

type response struct {
	status int
	header http.Header
	body   string
}

// do sends a request; a body that begins with a brace is JSON, and any other a form.
func (h *host) do(t *testing.T, method, path, body string, header ...string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case strings.HasPrefix(body, "{"):
		req.Header.Set("Content-Type", "application/json")
	case body != "":
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{res.StatusCode, res.Header, string(text)}
}

func form(pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values.Encode()
}

// expect fails the test unless the response has the status and each of the texts.
func expect(t *testing.T, what string, r response, status int, texts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("%s: %d, want %d: %s", what, r.status, status, r.body)
	}
	page := regexp.MustCompile(` (role|data-label)="[^"]*"`).ReplaceAllString(r.body, "")
	page = strings.ReplaceAll(html.UnescapeString(page), "\u00a0", " ")
	for _, text := range texts {
		if !strings.Contains(r.body, text) && !strings.Contains(page, text) {
			t.Errorf("%s: the page has no %q: %s", what, text, r.body)
		}
	}
}

func TestGlance(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{Price: func(string, string) float64 { return 0.05 }, Currency: "EUR"})
	expect(t, "nothing happened", h.do(t, http.MethodGet, "/", ""), http.StatusOK, "No SMS since 12:00 UTC; no SMS in the hour before.", "Nothing is blocked.", "No SMS were sent.", "Nothing was refused.", "Nothing was confirmed.")
	h.advance(-time.Hour)
	for i := range 4 {
		if err := h.ask(t, fmt.Sprintf("+44770090000%d", i), i > 0); err != nil {
			t.Fatal(err)
		}
	}
	h.advance(time.Hour)
	h.sender.Fail(errors.New("busy"))
	_ = h.ask(t, "+33612345678", false)
	if err := h.ask(t, "+33612345678", true); err != nil {
		t.Fatal(err)
	}
	_ = h.ask(t, "12", false)
	expect(t, "a day", h.do(t, http.MethodGet, "/", ""), http.StatusOK,
		"2 SMS since 12:00 UTC, 100% confirmed; 4 SMS in the hour before, 75% confirmed.",
		`<th scope="row">United Kingdom</th><td>4</td><td>4</td><td>75%</td><td>20 s</td><td>0</td>`,
		`<th scope="row">France</th><td>2</td><td>1</td><td>100%</td><td>20 s</td><td class="bad">1</td>`,
		`<th scope="row">smstest</th><td>6</td>`, "Half of the confirmations took up to 30 s.", "bad input", "the request was malformed", "0.25 EUR", `<td>0.05</td>`)
	expect(t, "whole days", h.do(t, http.MethodGet, "/?period=7d", ""), http.StatusOK, ">23 Feb</text>", ">1 Mar</text>")
	for _, period := range []string{"7d", "30d", "nonsense"} {
		expect(t, period, h.do(t, http.MethodGet, "/?period="+period, ""), http.StatusOK, `<th scope="row">United Kingdom</th><td>4</td>`)
	}
}

// TestManyCountries sends SMS to more countries than the page lists. The page stays small.
func TestManyCountries(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{Price: func(string, string) float64 { return 1 }, Currency: "EUR"})
	codes := []string{
		"33612345678", "4915112345678", "34612345678", "393123456789", "31612345678", "32470123456", "351912345678", "353850123456", "358412345678",
		"48512345678", "420601123456", "421912123456", "36201234567", "40712034567", "359487123456", "302101234567", "46701234567", "4740612345",
		"4532123456", "41781234567", "43664123456", "385921234567", "38640123456", "37251234567", "37121234567", "37061234567", "352628123456",
		"35621961234", "35796123456", "3546111234", "905012345678", "972502345678", "819012345678", "821020000000", "5511961234567",
	}
	for i, number := range codes {
		if err := h.ask(t, "+"+number, i%2 == 0); err != nil {
			t.Fatalf("+%s: %v", number, err)
		}
	}
	page := h.do(t, http.MethodGet, "/?period=30d", "")
	expect(t, "many countries", page, http.StatusOK, fmt.Sprintf(`<th scope="row">%d more</th><td>%[1]d</td><td>%[1]d</td>`, len(codes)-30), "<td>5.00</td>")
	if n := strings.Count(page.body, `scope="row" role="rowheader"`); n != 30+1+1 { // 30 countries, the sum of the others, and the provider
		t.Errorf("%d rows", n)
	}
	if kilobytes := len(page.body) >> 10; kilobytes > 60 {
		t.Errorf("the page has %d kB", kilobytes)
	}
}

// TestDryRun sets Guard.DryRun, so that the guard only reports blocks.
func TestDryRun(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{}, func(o *threepid.Options) { o.Guard.DryRun = true })
	for i := 0; ; i++ {
		if blocks, err := h.plugin.AllBlocks(t.Context()); err != nil || i == 200 {
			t.Fatalf("nothing would be blocked: %v", err)
		} else if len(blocks) > 0 {
			break
		}
		h.advance(time.Minute)
		_ = h.ask(t, fmt.Sprintf("+44740001%04d", i*97%10_000), false)
	}
	expect(t, "blocks", h.do(t, http.MethodGet, "/blocks", ""), http.StatusOK, "dry run: nothing is blocked")
	expect(t, "the first page", h.do(t, http.MethodGet, "/", ""), http.StatusOK, "Nothing is blocked.")
}

// TestFindings makes a provider fail, and then sends many SMS that nobody confirms.
func TestFindings(t *testing.T) {
	t.Parallel()
	off := func(o *threepid.Options) {
		o.Limits, o.Guard = limits.Limits{Disabled: true}, limits.Guard{Disabled: true}
	}
	h := start(t, admin.Options{}, off)
	h.advance(-10 * time.Hour)
	next := 0
	ask := func(n int, confirm bool) {
		for range n {
			next++
			_ = h.ask(t, fmt.Sprintf("+4474%08d", next), confirm)
		}
	}
	for range 8 {
		ask(10, true)
		h.advance(time.Hour)
	}
	if page := h.do(t, http.MethodGet, "/", ""); strings.Contains(page.body, "What stands out") {
		t.Errorf("a normal hour is highlighted: %s", page.body)
	}
	ask(60, false)
	expect(t, "a pump", h.do(t, http.MethodGet, "/", ""), http.StatusOK, "United Kingdom: ", "usually 100%. That is", "it looks like pumping")
	h.advance(3 * time.Hour)
	ask(25, false)
	expect(t, "no more SMS than usual", h.do(t, http.MethodGet, "/", ""), http.StatusOK, "0% of 25 SMS confirmed", "the provider may be failing to deliver them")
	for i, m := range h.sender.Messages() {
		if i >= len(h.sender.Messages())-25 {
			if err := h.plugin.RecordReceipt(t.Context(), sms.Receipt{MessageID: m.ID, Status: sms.Undelivered}); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect(t, "receipts", h.do(t, http.MethodGet, "/", ""), http.StatusOK, "Most receipts say that the SMS were not delivered")
	h.advance(3 * time.Hour)
	h.sender.FailAlways(errors.New("down"))
	ask(20, false)
	expect(t, "an outage", h.do(t, http.MethodGet, "/", ""), http.StatusOK, "smstest failed to send 100% of its 20 SMS since", "it may be down")
}

func TestNumber(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{})
	expect(t, "a number in the URL", h.do(t, http.MethodPost, "/number?number=%2B447700900001", ""), http.StatusBadRequest, "This is not a phone number")
	expect(t, "the form", h.do(t, http.MethodGet, "/number", ""), http.StatusOK, `<form class="search" method="post" action="/number">`)
	if err := h.ask(t, number, true); err != nil {
		t.Fatal(err)
	}
	m, _ := h.sender.Last()
	if err := h.plugin.RecordReceipt(t.Context(), sms.Receipt{MessageID: m.ID, Status: sms.Undelivered, Reason: "30005"}); err != nil {
		t.Fatal(err)
	}
	if err := h.store.Associate(t.Context(), store.Association{UserID: "<script>alert(1)</script>", MSISDN: number[1:]}); err != nil {
		t.Fatal(err)
	}
	found := h.do(t, http.MethodPost, "/number", form("number", " +44 7700 (900)-001 "))
	expect(t, "a number", found, http.StatusOK, "+44 7700 900001", "&lt;script&gt;alert(1)&lt;/script&gt;",
		"SMS accepted by smstest (to add it to an account)", "Right code submitted.", "Number validated (to add it to an account), 20 s after the SMS.",
		"Receipt from smstest: delivery failed permanently (code 30005).", "23 of 24 left", "Unblock", `action="/number/erase"`)
	if strings.Contains(found.body, "<script>") {
		t.Errorf("the page has a script: %s", found.body)
	}
	for _, bad := range []string{"", "07700900001", "hello", "<script>"} {
		expect(t, bad, h.do(t, http.MethodPost, "/number", form("number", bad)), http.StatusBadRequest, "This is not a phone number")
	}
	unblocked := h.do(t, http.MethodPost, "/number/unblock", form("number", number))
	expect(t, "unblock", unblocked, http.StatusOK, "The number and its range are unblocked.", "Unblocked by an operator")
	if strings.Contains(unblocked.body, "of 24 left") {
		t.Errorf("the limits are as before: %s", unblocked.body)
	}
	expect(t, "release", h.do(t, http.MethodPost, "/number/release", form("number", number)), http.StatusOK, "released from its account", "no account has the number")
	expect(t, "release again", h.do(t, http.MethodPost, "/number/release", form("number", number)), http.StatusOK, "No account had the number.")
	exported := h.do(t, http.MethodPost, "/number/export", form("number", number))
	expect(t, "export", exported, http.StatusOK, `"number": "+447700900001"`)
	if got := exported.header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment") {
		t.Errorf("the export is shown, not saved: %q", got)
	}
	expect(t, "erase without the number", h.do(t, http.MethodPost, "/number/erase", form("number", number, "again", "+44")), http.StatusBadRequest, "type it again")
	expect(t, "erase", h.do(t, http.MethodPost, "/number/erase", form("number", number, "again", number)), http.StatusOK, "All data about the number is erased.", "Nothing is recorded.")
	expect(t, "audit", h.do(t, http.MethodGet, "/audit", ""), http.StatusOK, "carol", "explain", "unblock", "release", "export", "erase", "+44770090****")
	if page := h.do(t, http.MethodGet, "/audit", ""); strings.Contains(page.body, number[1:]) {
		t.Error("the audit log has a complete number")
	}
}

// pump requests SMS until a range is blocked.
func (h *host) pump(t *testing.T) {
	t.Helper()
	for i := range 200 {
		h.advance(time.Minute)
		if h.ask(t, fmt.Sprintf("+44740001%04d", i*97%10_000), false) != nil {
			return
		}
	}
	t.Fatal("nothing was blocked")
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{})
	expect(t, "no block", h.do(t, http.MethodGet, "/blocks", ""), http.StatusOK, "Nothing is blocked.")
	h.pump(t)
	expect(t, "a block", h.do(t, http.MethodGet, "/blocks", ""), http.StatusOK, "+44740001****", "range of numbers", "few of the numbers were validated", "Lift", "UTC</time>, in 1")
	expect(t, "the first page", h.do(t, http.MethodGet, "/", ""), http.StatusOK, "in force.", "See what is blocked.")
	expect(t, "lift", h.do(t, http.MethodPost, "/blocks/lift", form("range", "44740001")), http.StatusOK, "The block of +44740001**** is lifted.")
	expect(t, "lift again", h.do(t, http.MethodPost, "/blocks/lift", form("range", "44740001")), http.StatusOK, "has ended already")
	if err := h.ask(t, "+447400019999", false); err != nil {
		var refusal *threepid.Error
		if !errors.As(err, &refusal) || refusal.ErrCode != "M_LIMIT_EXCEEDED" {
			t.Fatal(err)
		}
		expect(t, "the country", h.do(t, http.MethodPost, "/blocks/lift", form("country", "GB")), http.StatusOK, "is lifted")
	}
}

// TestManyBlocks blocks more ranges than the page shows.
func TestManyBlocks(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{}, func(o *threepid.Options) { o.Limits.Disabled = true })
	for i := range 102 {
		for n := range 30 {
			if h.ask(t, fmt.Sprintf("+4474%04d%04d", 1000+i, n), false) != nil {
				break
			}
			_ = h.plugin.Lift(t.Context(), limits.Block{Country: "GB"}) // so that only ranges are blocked
		}
	}
	blocks, err := h.plugin.AllBlocks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	page := h.do(t, http.MethodGet, "/blocks", "")
	expect(t, "many blocks", page, http.StatusOK, fmt.Sprintf("%d more ranges are blocked.", len(blocks)-100))
	if n := strings.Count(page.body, `<li class="card">`); n != 100 || len(page.body) > 150<<10 {
		t.Errorf("%d of %d blocks in %d bytes", n, len(blocks), len(page.body))
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	h := start(t, admin.Options{}, func(o *threepid.Options) { o.Policy.AllowCountries = []string{"GB", "FR"} })
	expect(t, "limits", h.do(t, http.MethodGet, "/limits", ""), http.StatusOK,
		"6 at once, then one every 10 min", "24 at once, then one every hour, including those that validated", "20% of them validated", "GB, FR", "for 15 min at first")
	off := start(t, admin.Options{}, func(o *threepid.Options) {
		o.Limits, o.Guard = limits.Limits{Disabled: true}, limits.Guard{Disabled: true}
	})
	expect(t, "no limits", off.do(t, http.MethodGet, "/limits", ""), http.StatusOK, "There are no limits.", "Nothing is blocked.")
}
