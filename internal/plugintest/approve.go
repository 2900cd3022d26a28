package plugintest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/nyaruka/phonenumbers"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
)

// approveTests are about the host's hook that may refuse an SMS.
func approveTests() []test {
	return []test{
		{"ApproveReceivesAll", testApproveReceivesAll},
		{"ApproveIsAskedOncePerAttempt", testApproveIsAskedOncePerAttempt},
		{"ApproveIsAskedOnceByIdenticalRequests", testApproveIsAskedOnceByIdenticalRequests},
		{"ApproveComesAfterTheLimits", testApproveComesAfterTheLimits},
		{"ApproveIsAskedLast", testApproveIsAskedLast},
		{"ApproveRefusesOrFails", testApproveRefusesOrFails},
		{"ApproveThatPanics", testApproveThatPanics},
		{"ApproveThatHangs", testApproveThatHangs},
	}
}

// approve sets the host's hook.
func approve(hook func(context.Context, limits.ApprovalRequest) error) func(*threepid.Options) {
	return func(o *threepid.Options) {
		o.Policy.Approve = func(ctx context.Context, r limits.ApprovalRequest) (limits.Approval, error) {
			return limits.Approved, hook(ctx, r)
		}
	}
}

func testApproveReceivesAll(t *testing.T, open opener) {
	asked := make(chan limits.ApprovalRequest, 1)
	n := start(t, open(t), approve(func(ctx context.Context, i limits.ApprovalRequest) error {
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > 10*time.Second {
			t.Errorf("the context ends at %v, %v", end, ok)
		}
		asked <- i
		return nil
	}))
	n.associate(t, "@alice:example.org", inJersey[1:])
	for _, row := range []struct {
		path, number, country string
		purpose               store.Purpose
	}{
		{addPath, inGB, "GB", store.PurposeAdd},
		{regPath, inJamaica, "JM", store.PurposeRegister},
		{pwdPath, inJersey, "JE", store.PurposePassword},
		{addPath, inNoneOfGB, "GB", store.PurposeAdd},
	} {
		body := request(map[string]any{"phone_number": row.number, "country": "FR"})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+row.path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Captcha", "solved")
		if a := n.send(req); a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", row.number, a.status, a.body)
		}
		i := <-asked
		if i.Purpose != row.purpose || "+"+i.MSISDN != row.number || i.Country != row.country || i.Client != "127.0.0.1" ||
			i.Header.Get("X-Captcha") != "solved" {
			t.Errorf("%s: the hook got %+v", row.number, i)
		}
	}
	named := start(t, open(t), approve(func(_ context.Context, i limits.ApprovalRequest) error {
		asked <- i
		return nil
	}), func(o *threepid.Options) {
		o.ClientKey = func(c *gin.Context) string { return "user " + c.GetHeader("X-User") }
	})
	named.mustRequest(addPath, attempt(1))
	if i := <-asked; i.Client != "user " {
		t.Errorf("client %q", i.Client)
	}
}

// singleUse is a CAPTCHA whose tokens can be checked once, like those of real services. It reads
// them from X-Captcha.
type singleUse struct {
	mu    sync.Mutex
	used  map[string]bool
	asked int
	delay time.Duration
}

func (s *singleUse) check(_ context.Context, i limits.ApprovalRequest) error {
	time.Sleep(s.delay)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	token := i.Header.Get("X-Captcha")
	if token == "" || s.used[token] {
		return limits.ErrDenied
	}
	if s.used == nil {
		s.used = make(map[string]bool)
	}
	s.used[token] = true
	return nil
}

func (s *singleUse) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// postSolved is post with the token of a solved CAPTCHA.
func (n *node) postSolved(path, body, token string) answer {
	n.tb.Helper()
	req, err := http.NewRequestWithContext(n.tb.Context(), http.MethodPost, n.url+path, strings.NewReader(body))
	if err != nil {
		n.tb.Fatal(err)
	}
	req.Header.Set("X-Captcha", token)
	return n.send(req)
}

// testApproveIsAskedOncePerAttempt solves a CAPTCHA once for an attempt. The token is not checked
// again when the attempt is repeated after a failure, on another node, or after the SMS was sent.
func testApproveIsAskedOncePerAttempt(t *testing.T, open opener) {
	var captcha singleUse
	st := open(t)
	n := start(t, st, approve(captcha.check))
	other := start(t, st, approve(captcha.check))
	n.sms.Fail(errors.New("no route"))
	expect(t, n.postSolved(addPath, attempt(1), "first"), http.StatusBadGateway, "M_SEND_ERROR")
	for _, node := range []*node{other, other, n} { // first to be sent, then because it was
		expect(t, node.postSolved(addPath, attempt(1), "first"), http.StatusOK, "")
	}
	expect(t, n.postSolved(addPath, attempt(0), ""), http.StatusOK, "") // seen, with a later one
	if captcha.count() != 1 {
		t.Errorf("the hook was asked %d times about one attempt", captcha.count())
	}
	expectDenied(t, n.postSolved(addPath, attempt(2), "first")) // a new attempt needs a new approval
	expectDenied(t, n.postSolved(addPath, attempt(2), ""))      // a refused one does not count
	expect(t, n.postSolved(addPath, attempt(2), "second"), http.StatusOK, "")
	if got := n.sms.Count() + other.sms.Count(); got != 2 {
		t.Errorf("%d SMS were sent, want 2", got)
	}

	// For another purpose it is a new request, which needs its own approval.
	n.sms.Fail(errors.New("no route"))
	expect(t, n.postSolved(addPath, attempt(3), "third"), http.StatusBadGateway, "M_SEND_ERROR")
	expectDenied(t, n.postSolved(regPath, attempt(3), "third"))
}

func testApproveIsAskedOnceByIdenticalRequests(t *testing.T, open opener) {
	captcha := singleUse{delay: 200 * time.Millisecond}
	n := start(t, open(t), approve(captcha.check))
	together(20, func(int) { expect(t, n.postSolved(addPath, attempt(1), "once"), http.StatusOK, "") })
	n.expectTexts(t, 1)
	together(20, func(int) { expectDenied(t, n.postSolved(addPath, attempt(2), "once")) })
	n.expectTexts(t, 1)
	if got := captcha.count(); got < 2 || got > 12 {
		t.Errorf("asked %d times", got)
	}
	expect(t, n.postSolved(addPath, attempt(2), "twice"), http.StatusOK, "")
}

// testApproveComesAfterTheLimits checks that a request that the limits refuse does not use up a
// CAPTCHA.
func testApproveComesAfterTheLimits(t *testing.T, open opener) {
	var captcha singleUse
	n := start(t, open(t), approve(captcha.check), func(o *threepid.Options) {
		o.Limits = limits.Limits{PerNumber: []limits.Limit{{Burst: 1, Every: time.Hour}}, Reserve: []limits.Limit{}}
	})
	n.associate(t, "@alice:example.org", inFrance[1:])
	expect(t, n.postSolved(addPath, dial(inFrance), "kept"), http.StatusBadRequest, "M_THREEPID_IN_USE")
	expect(t, n.postSolved(addPath, attempt(1), "first"), http.StatusOK, "")
	expect(t, n.postSolved(addPath, attempt(2), "kept"), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	if captcha.count() != 1 {
		t.Errorf("the hook was asked %d times, want 1", captcha.count())
	}
	n.clock.advance(time.Hour)
	expect(t, n.postSolved(addPath, attempt(2), "kept"), http.StatusOK, "")
}

// testApproveIsAskedLast checks that the hook is not called for requests that are malformed or that
// other rules refuse.
func testApproveIsAskedLast(t *testing.T, open opener) {
	n := start(t, open(t), approve(func(_ context.Context, i limits.ApprovalRequest) error {
		t.Errorf("asked about %s", i.MSISDN)
		return limits.ErrDenied
	}), func(o *threepid.Options) { o.Policy.DenyCountries, o.Policy.RequireValidNumbers = []string{"FR"}, true })
	for _, body := range []string{
		"{", request(map[string]any{"client_secret": ""}), request(map[string]any{"send_attempt": -1}),
		request(map[string]any{"next_link": "x"}), request(map[string]any{"phone_number": "12"}), dial(inNoneOfGB),
	} {
		if a := n.post(addPath, body); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	expectDenied(t, n.post(addPath, dial(inFrance)))
	expectDenied(t, n.post(addPath, dial(serviceNumbers(phonenumbers.PREMIUM_RATE)[0])))

	// The hook gets only numbers that parse to the same number again: see phone.Number.
	n = start(t, open(t), approve(func(_ context.Context, i limits.ApprovalRequest) error {
		t.Errorf("asked about %s", i.MSISDN)
		return limits.ErrDenied
	}))
	expect(t, n.post(addPath, request(map[string]any{"country": "CC", "phone_number": "000000"})), http.StatusBadRequest, "M_INVALID_PARAM")
}

func testApproveRefusesOrFails(t *testing.T, open opener) {
	leak := errors.New("captcha service at 10.0.0.7: key s3cr3t")
	for _, row := range []struct {
		name    string
		err     error
		status  int
		errcode string
	}{
		{"denied", limits.ErrDenied, http.StatusForbidden, "M_THREEPID_DENIED"},
		{"denied, wrapped", fmt.Errorf("%w: %w", leak, limits.ErrDenied), http.StatusForbidden, "M_THREEPID_DENIED"},
		{"failed", leak, http.StatusInternalServerError, "M_UNKNOWN"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var verdict atomic.Pointer[error]
			verdict.Store(&row.err)
			n := start(t, open(t), approve(func(context.Context, limits.ApprovalRequest) error { return *verdict.Load() }))
			a := n.post(addPath, attempt(1))
			expect(t, a, row.status, row.errcode)
			if strings.Contains(a.body, "captcha") || strings.Contains(a.body, "s3cr3t") {
				t.Errorf("the host's words reached the client: %s", a.body)
			}
			if logged := strings.Contains(n.logs.String(), "captcha service"); logged != (row.status == http.StatusInternalServerError) {
				t.Errorf("log: %s", n.logs)
			}
			if _, err := n.sessionOf(t); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("a session was stored: %v", err)
			}
			n.expectTexts(t, 0)
			verdict.Store(new(error))
			n.mustRequest(addPath, attempt(1))
			n.expectTexts(t, 1)
		})
	}
}

// testApproveThatPanics checks that the same attempt succeeds at once after a panic.
func testApproveThatPanics(t *testing.T, open opener) {
	router := gin.New()
	router.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, _ any) { c.Status(http.StatusInternalServerError) }))
	var asked atomic.Int64
	recorder := smstest.New()
	n := startOn(t, router, open(t), recorder, &logs{}, approve(func(context.Context, limits.ApprovalRequest) error {
		if asked.Add(1) == 2 {
			panic("boom")
		}
		return nil
	}))
	n.mustRequest(addPath, attempt(1))
	if a := n.post(addPath, attempt(2)); a.status != http.StatusInternalServerError {
		t.Errorf("%d %s", a.status, a.body)
	}
	if s, err := n.sessionOf(t); err != nil || s.ClaimAttempt != 1 || s.LeaseUntil != 0 {
		t.Errorf("a claim stayed behind: %+v, %v", s, err)
	}
	n.mustRequest(addPath, attempt(2))
	if recorder.Count() != 2 {
		t.Errorf("%d SMS", recorder.Count())
	}
	if err := n.plugin.Close(); err != nil { // and Close does not wait for it
		t.Error(err)
	}
}

// testApproveThatHangs checks that a hook that hangs ends with the caller's context.
func testApproveThatHangs(t *testing.T, open opener) {
	began := make(chan struct{})
	ended := make(chan error, 1)
	n := start(t, open(t), approve(func(ctx context.Context, _ limits.ApprovalRequest) error {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}))
	ctx, hangUp := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+addPath, strings.NewReader(attempt(1)))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-began
		hangUp()
	}()
	if res, err := n.client.Do(req); err == nil {
		_ = res.Body.Close()
		t.Error("a response was returned")
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Error("the hook did not get it")
	}
	n.expectTexts(t, 0)
}
