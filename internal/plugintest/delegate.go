package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/delegate"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// delegateTests are about a service that sends and checks the codes.
func delegateTests() []test {
	return []test{
		{"DelegateWholeFlow", testDelegateWholeFlow},
		{"DelegateSendsOncePerAttempt", testDelegateSendsOncePerAttempt},
		{"DelegateRefusals", testDelegateRefusals},
		{"DelegateChecks", testDelegateChecks},
		{"DelegateGuessing", testDelegateGuessing},
		{"DelegateTriesComeBack", testDelegateTriesComeBack},
		{"DelegateRightTokenTwiceAtOnce", testDelegateRightTokenTwiceAtOnce},
		{"DelegateHangs", testDelegateHangs},
		{"DelegatePanics", testDelegatePanics},
		{"DelegatePurposes", testDelegatePurposes},
		{"DelegateTrust", testDelegateTrust},
		{"DelegateTestNumber", testDelegateTestNumber},
		{"DelegateOddHandle", testDelegateOddHandle},
	}
}

// service is a delegate with one secret code, which can be made to fail.
type service struct {
	mu     sync.Mutex
	starts []delegate.StartRequest
	checks []delegate.CheckRequest
	fail   error  // of Start and Check
	handle string // instead of a new one each time
}

const rightToken = "4711"

func (s *service) Start(_ context.Context, v delegate.StartRequest) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts = append(s.starts, v)
	if s.handle != "" {
		return s.handle, s.fail
	}
	return fmt.Sprintf("VE%d", len(s.starts)), s.fail
}

func (s *service) Check(_ context.Context, c delegate.CheckRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks = append(s.checks, c)
	if s.fail != nil {
		return s.fail
	}
	if c.Token != rightToken {
		return delegate.ErrIncorrect
	}
	return nil
}

func (s *service) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *service) seen() ([]delegate.StartRequest, []delegate.CheckRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts, s.checks
}

// trusted is the name of a service that clients may pass as id_server.
type trusted struct{ *service }

func (trusted) MatchesServer(idServer string) bool { return idServer == "id.example.org" }

// startDelegated runs a node with a delegate and without a sender.
func startDelegated(tb testing.TB, st Store, to delegate.Service, change ...func(*threepid.Options)) *node {
	tb.Helper()
	return startWith(tb, st, nil, &logs{}, append([]func(*threepid.Options){
		func(o *threepid.Options) { o.Delegate = to },
	}, change...)...)
}

func testDelegateWholeFlow(t *testing.T, open opener) {
	s := &service{}
	n := startDelegated(t, open(t), s)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	starts, _ := s.seen()
	if len(starts) != 1 || starts[0].To != "+"+msisdn || starts[0].Country != "GB" || starts[0].Purpose != store.PurposeAdd ||
		starts[0].Attempt != 1 || starts[0].ID == "" || len(starts[0].Secret) != 64 || strings.Contains(starts[0].Secret, secret) {
		t.Fatalf("the service was asked for %+v", starts)
	}
	expect(t, n.submit(sid, secret, "1234"), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expect(t, n.submit(sid, "another", rightToken), http.StatusBadRequest, "M_INVALID_PARAM")
	expect(t, n.submit(sid, secret, " ٤7-11 "), http.StatusOK, "")
	if _, err := n.plugin.Validated(t.Context(), sid, secret); err != nil {
		t.Error(err)
	}
	_, checks := s.seen()
	want := delegate.CheckRequest{Handle: "VE1", Secret: starts[0].Secret, To: "+" + msisdn, Purpose: store.PurposeAdd, Token: rightToken}
	if len(checks) != 2 || checks[1] != want {
		t.Errorf("the service was asked to check %+v, want %+v", checks, want)
	}

	// The same code again is known without a call, and another one is still wrong.
	s.failWith(delegate.ErrExpired)
	expect(t, n.submit(sid, secret, rightToken), http.StatusOK, "")
	expect(t, n.submit(sid, secret, "1234"), http.StatusBadRequest, "M_SESSION_EXPIRED")
	row, err := n.sessionOf(t)
	if err != nil || strings.Contains(fmt.Sprintf("%+v", row), rightToken) || row.AcceptedTokenDigest == "" {
		t.Errorf("the row is %+v, %v", row, err)
	}
	if _, err := n.plugin.Redeem(t.Context(), sid, secret); err != nil {
		t.Error(err)
	}
}

func testDelegateSendsOncePerAttempt(t *testing.T, open opener) {
	s := &service{}
	n := startDelegated(t, open(t), s)
	together(20, func(int) { n.mustRequest(addPath, attempt(3)) })
	n.mustRequest(addPath, attempt(2))
	n.mustRequest(addPath, attempt(4))
	starts, _ := s.seen()
	if len(starts) != 2 || starts[0].ID == starts[1].ID || starts[0].Secret != starts[1].Secret {
		t.Errorf("the service was asked for %+v", starts)
	}
	// After its lifetime the code is a new one, and so is the ID of the verification.
	n.clock.advance(11 * time.Minute)
	n.mustRequest(addPath, attempt(5))
	if starts, _ = s.seen(); len(starts) != 3 || starts[2].Secret == starts[1].Secret {
		t.Errorf("the service was asked for %+v", starts)
	}
}

func testDelegateRefusals(t *testing.T, open opener) {
	leak := errors.New("service said: 07700900001 s3cr3t")
	for name, row := range map[string]struct {
		err        error
		status     int
		errcode    string
		retryAfter string
	}{
		"rejected":      {errors.Join(leak, sms.ErrRejected), http.StatusBadRequest, "M_DESTINATION_REJECTED", ""},
		"misconfigured": {errors.Join(leak, sms.ErrMisconfigured), http.StatusBadGateway, "M_SEND_ERROR", ""},
		"temporary":     {leak, http.StatusBadGateway, "M_SEND_ERROR", ""},
		"limited":       {fmt.Errorf("x: %w", &delegate.LimitError{RetryAfter: 90 * time.Second}), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "90"},
		"limited, no time": {
			&delegate.LimitError{}, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "60",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &service{fail: row.err}
			n := startDelegated(t, open(t), s, func(o *threepid.Options) {
				o.Limits = limits.Limits{PerNumber: []limits.Limit{{Burst: 1, Every: time.Hour}}}
			})
			a := n.post(addPath, attempt(1))
			expect(t, a, row.status, row.errcode)
			if a.header.Get("Retry-After") != row.retryAfter || strings.Contains(a.body, "s3cr3t") {
				t.Errorf("%v %s", a.header, a.body)
			}
			// No SMS was sent, so the attempt is not seen and costs nothing.
			s.failWith(nil)
			n.mustRequest(addPath, attempt(1))
		})
	}
}

func testDelegateChecks(t *testing.T, open opener) {
	for name, row := range map[string]struct {
		err     error
		status  int
		errcode string
		counted int
	}{
		"incorrect":     {delegate.ErrIncorrect, http.StatusBadRequest, "M_TOKEN_INCORRECT", 1},
		"over":          {delegate.ErrExpired, http.StatusBadRequest, "M_SESSION_EXPIRED", 1},
		"temporary":     {errors.New("down: s3cr3t"), http.StatusBadGateway, "M_UNKNOWN", 0},
		"misconfigured": {errors.Join(errors.New("s3cr3t"), sms.ErrMisconfigured), http.StatusBadGateway, "M_UNKNOWN", 0},
		"uncertain":     {errors.Join(errors.New("s3cr3t"), sms.ErrUncertain), http.StatusBadGateway, "M_UNKNOWN", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &service{}
			n := startDelegated(t, open(t), s)
			sid := n.mustRequest(addPath, attempt(1)).text("sid")
			s.failWith(row.err)
			a := n.submit(sid, secret, rightToken)
			expect(t, a, row.status, row.errcode)
			if strings.Contains(a.body, "s3cr3t") || a.fields["success"] != false {
				t.Errorf("%s", a.body)
			}
			if got, err := n.sessionOf(t); err != nil || got.WrongTries != row.counted || got.ValidatedAt != 0 {
				t.Errorf("%+v, %v; want %d tries counted", got, err, row.counted)
			}
			s.failWith(nil)
			expect(t, n.submit(sid, secret, rightToken), http.StatusOK, "")
		})
	}
}

// testDelegateGuessing checks that the service is called no more often than a node would compare
// codes itself.
func testDelegateGuessing(t *testing.T, open opener) {
	s := &service{}
	n := startDelegated(t, open(t), s)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	together(50, func(i int) { n.submit(sid, secret, fmt.Sprint(5000+i)) })
	if _, checks := s.seen(); len(checks) != 5 {
		t.Errorf("the service was asked %d times", len(checks))
	}
	expect(t, n.submit(sid, secret, rightToken), http.StatusBadRequest, "M_SESSION_EXPIRED")
}

// testDelegateTriesComeBack checks that a service that is down uses up neither the session's tries
// nor the limits on wrong codes.
func testDelegateTriesComeBack(t *testing.T, open opener) {
	s := &service{}
	n := startDelegated(t, open(t), s, func(o *threepid.Options) {
		o.Limits = limits.Limits{
			WrongCodesPerNumber: []limits.Limit{{Burst: 2, Every: time.Hour}}, WrongCodesPerNumberAndClient: []limits.Limit{{Burst: 2, Every: time.Hour}},
			WrongCodesPerClient: []limits.Limit{{Burst: 2, Every: time.Hour}}, MaxWrongCodes: 2,
		}
	})
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	s.failWith(errors.New("down"))
	for range 20 {
		expect(t, n.submit(sid, secret, rightToken), http.StatusBadGateway, "M_UNKNOWN")
	}
	// Each call to the service counts nevertheless.
	expectLimited(t, n.submit(sid, secret, rightToken), time.Minute)
	if _, checks := s.seen(); len(checks) != 20 {
		t.Errorf("the service was asked %d times", len(checks))
	}
	s.failWith(nil)
	n.clock.advance(time.Minute)
	expect(t, n.submit(sid, secret, rightToken), http.StatusOK, "")
}

// onceOnly is a service that forgets a verification once its code was right, like Twilio's. The
// second response waits until the first has arrived.
type onceOnly struct {
	service
	asked   chan struct{} // a second check is under way
	arrived chan struct{}
}

func (o *onceOnly) Check(context.Context, delegate.CheckRequest) error {
	o.mu.Lock()
	o.checks = append(o.checks, delegate.CheckRequest{})
	first := len(o.checks) == 1
	o.mu.Unlock()
	if first {
		<-o.asked
		return nil
	}
	close(o.asked)
	<-o.arrived
	return delegate.ErrExpired
}

// testDelegateRightTokenTwiceAtOnce submits the right code twice at once, as a person and a link
// preview may: neither is told that it has expired.
func testDelegateRightTokenTwiceAtOnce(t *testing.T, open opener) {
	s := &onceOnly{asked: make(chan struct{}), arrived: make(chan struct{})}
	n := startDelegated(t, open(t), s)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	first := sync.OnceFunc(func() { close(s.arrived) })
	together(2, func(int) {
		expect(t, n.submit(sid, secret, rightToken), http.StatusOK, "")
		first()
	})
	if sess, err := n.sessionOf(t); err != nil || sess.ValidatedAt == 0 || sess.WrongTries != 0 {
		t.Errorf("%+v, %v", sess, err)
	}
}

// hanging is a service that never returns and ignores its context.
type hanging struct{}

func (hanging) Start(context.Context, delegate.StartRequest) (string, error) { select {} }
func (hanging) Check(context.Context, delegate.CheckRequest) error           { select {} }

func testDelegateHangs(t *testing.T, open opener) {
	n := startDelegated(t, open(t), hanging{}, func(o *threepid.Options) { o.SendTimeout = 20 * time.Millisecond })
	expect(t, n.post(addPath, attempt(1)), http.StatusBadGateway, "M_SEND_ERROR")
	sess, err := n.sessionOf(t)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, n.submit(sess.SID, secret, rightToken), http.StatusBadGateway, "M_UNKNOWN")
}

// panicking is a service that panics after it has compared a code.
type panicking struct{ *service }

func (p panicking) Check(ctx context.Context, c delegate.CheckRequest) error {
	if err := p.service.Check(ctx, c); err != nil {
		panic(err)
	}
	return nil
}

// testDelegatePanics checks that a panic does not allow uncounted guesses.
func testDelegatePanics(t *testing.T, open opener) {
	s := &service{}
	n := startDelegated(t, open(t), panicking{s})
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	for i := range 10 {
		n.submit(sid, secret, fmt.Sprint(5000+i))
	}
	if _, checks := s.seen(); len(checks) != 5 {
		t.Errorf("the service was asked %d times", len(checks))
	}
}

// testDelegatePurposes submits a code that was sent for adding a number for other purposes: it is
// accepted for none of them.
func testDelegatePurposes(t *testing.T, open opener) {
	s := &service{}
	n := startDelegated(t, open(t), s)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	s.failWith(errors.New("down"))
	expect(t, n.post(regPath, attempt(2)), http.StatusBadGateway, "M_SEND_ERROR")
	s.failWith(nil)
	n.submit(sid, secret, rightToken)
	starts, checks := s.seen()
	if len(checks) != 1 || checks[0].Handle != "" || checks[0].Secret == starts[0].Secret || checks[0].Purpose != store.PurposeRegister {
		t.Errorf("the service was asked to check %+v after it was asked for %+v", checks, starts)
	}
}

func testDelegateTrust(t *testing.T, open opener) {
	n := startDelegated(t, open(t), trusted{&service{}})
	body := func(server string) string {
		return request(map[string]any{"id_server": server, "id_access_token": "abc123"})
	}
	for _, name := range []string{"evil.example", "id.example.org.evil.example", "https://id.example.org"} {
		for _, path := range []string{addPath, regPath, pwdPath} {
			expect(t, n.post(path, body(name)), http.StatusBadRequest, "M_SERVER_NOT_TRUSTED")
		}
	}
	n.mustRequest(addPath, body("id.example.org"))
	n.mustRequest(addPath, request(nil))
	expect(t, n.post(addPath, request(map[string]any{"id_server": "id.example.org"})), http.StatusBadRequest, "M_MISSING_PARAM")

	// A service that is no identity server has no name as one; neither has this node.
	startDelegated(t, open(t), &service{}).mustRequest(addPath, body("evil.example"))
	start(t, open(t)).mustRequest(addPath, body("evil.example"))
}

func testDelegateTestNumber(t *testing.T, open opener) {
	s := &service{}
	n := startDelegated(t, open(t), s, func(o *threepid.Options) {
		o.Policy.TestNumbers = []limits.TestNumber{{Number: "+" + msisdn, Code: "424242"}}
	})
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	expect(t, n.submit(sid, secret, "424242"), http.StatusOK, "")
	expect(t, n.submit(sid, secret, "424242"), http.StatusOK, "")
	if starts, checks := s.seen(); len(starts)+len(checks) != 0 {
		t.Errorf("the service was asked: %+v, %+v", starts, checks)
	}
}

func testDelegateOddHandle(t *testing.T, open opener) {
	for _, handle := range []string{strings.Repeat("h", 256), "a b", "é", "\n"} {
		s := &service{handle: handle}
		n := startDelegated(t, open(t), s)
		expect(t, n.post(addPath, attempt(1)), http.StatusBadGateway, "M_SEND_ERROR")
	}
	n := startDelegated(t, open(t), &service{handle: strings.Repeat("h", 255)})
	n.mustRequest(addPath, attempt(1))
}
