package verify_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/storetest"
)

// steps calls at before and after each step of a Request: each operation of the store, the look-up
// of the account and the send. If at returns an error, the step fails with it.
type steps struct {
	store.Store
	store.Accounts
	sms.Sender
	count atomic.Int64
	at    func(step int64, after bool) error
}

func (s *steps) around(run func() error) error {
	step := s.count.Add(1)
	if err := s.at(step, false); err != nil {
		return err
	}
	if err := run(); err != nil {
		return err
	}
	return s.at(step, true)
}

func (s *steps) View(ctx context.Context, names store.Names) (rows store.Rows, err error) {
	err = s.around(func() (err error) {
		rows, err = s.Store.View(ctx, names)
		return err
	})
	return rows, err
}

func (s *steps) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	return s.around(func() error { return s.Store.Update(ctx, names, change) })
}

func (s *steps) Owner(ctx context.Context, msisdn string) (userID string, err error) {
	err = s.around(func() error {
		userID, err = s.Accounts.Owner(ctx, msisdn)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	if err == nil && userID == "" {
		err = store.ErrNotFound
	}
	return userID, err
}

func (s *steps) Send(ctx context.Context, m sms.Message) error {
	return s.around(func() error { return s.Sender.Send(ctx, m) })
}

// clock is a clock that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func request(attempt int64) verify.Request {
	return verify.Request{
		Purpose: store.PurposeAdd, ClientSecret: "secret", Country: "GB", PhoneNumber: "07700900001", Attempt: attempt,
	}
}

// A fresh request takes these steps: look up the account, read the session and the limits, claim,
// send, record.
const (
	requestSteps = 5
	claimStep    = 3
)

// TestFaultAtEachStep lets one step of a request fail, before or after its effect; then the caller
// retries. An attempt that succeeded is not sent again. One that failed may be sent again, as
// exactly the same message, and its code is valid. The limits allow one SMS, and the retry is not
// refused, so a fault costs the caller nothing.
func TestFaultAtEachStep(t *testing.T) {
	t.Parallel()
	for step := int64(1); step <= requestSteps; step++ {
		for _, after := range []bool{false, true} {
			for name, fault := range map[string]func(cancel func()) error{
				"fails":     func(func()) error { return errors.New("gone") },
				"panics":    func(func()) error { panic("boom") },
				"cancelled": func(cancel func()) error { cancel(); return nil },
			} {
				t.Run(fmt.Sprintf("step %d, after %v, %s", step, after, name), func(t *testing.T) {
					t.Parallel()
					faultAt(t, step, after, fault)
				})
			}
		}
	}
}

func faultAt(t *testing.T, step int64, after bool, fault func(cancel func()) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	inner, texts, clock := memstore.New(), smstest.New(), newClock()
	s := &steps{Store: inner, Accounts: inner, Sender: texts}
	s.at = func(n int64, a bool) error {
		if n == step && a == after {
			return fault(cancel)
		}
		return nil
	}
	c := config(s, s)
	c.Sender, c.Now = s, clock.Now
	c.Limits.PerNumber = []limits.Limit{{Burst: 1, Every: time.Hour}}
	service := verify.New(c)
	defer service.Close()
	receipt, err := recovered(func() (verify.Receipt, error) { return service.Request(ctx, request(1)) })
	answered := len(texts.Calls())
	if err == nil && answered != 1 {
		t.Errorf("it succeeded after %d SMS", answered)
	}
	if ctx.Err() != nil && step >= claimStep && err != nil {
		t.Errorf("it was cut off after it had begun to claim: %v", err)
	}
	if n := s.count.Load(); n < step {
		t.Errorf("the request took only %d steps", n)
	}
	clock.advance(time.Minute) // past any lease
	again, retryErr := service.Request(t.Context(), request(1))
	if retryErr != nil {
		t.Fatalf("retry: %v", retryErr)
	}
	calls := texts.Calls()
	if err == nil && (len(calls) != 1 || again.SID != receipt.SID) {
		t.Errorf("an acknowledged attempt was sent %d times, in sessions %s and %s", len(calls), receipt.SID, again.SID)
	}
	for _, call := range calls {
		if call.ID != calls[0].ID || call.Text != calls[0].Text {
			t.Errorf("one attempt, two messages: %+v, %+v", calls[0], call)
		}
	}
	_, err = service.Submit(t.Context(), verify.Submission{SID: again.SID, ClientSecret: "secret", Token: calls[0].Text})
	if err != nil {
		t.Errorf("the code: %v", err)
	}
}

// recovered turns a panic, which an HTTP server recovers from, into an error.
func recovered(fn func() (verify.Receipt, error)) (r verify.Receipt, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return fn()
}

// TestClaimWithALostResponse stores the claim, but lets the store report an unknown outcome. The
// request recognizes its own claim and continues.
func TestClaimWithALostResponse(t *testing.T) {
	t.Parallel()
	inner := memstore.New()
	var updates atomic.Int64
	st := storetest.FailingAfter(inner, func(op string) error {
		if op == storetest.OpUpdate && updates.Add(1) == 1 {
			return errors.New("connection lost")
		}
		return nil
	})
	c := config(st, inner)
	texts := smstest.New()
	c.Sender, c.Now = texts, newClock().Now // a clock that stands still, so that no lease ends
	service := verify.New(c)
	defer service.Close()
	if _, err := service.Request(t.Context(), request(1)); err != nil {
		t.Fatal(err)
	}
	if n := len(texts.Calls()); n != 1 {
		t.Errorf("%d SMS", n)
	}
}

// TestClockSetBack sets the clock back by an hour after a node died with a claim. The session does
// not wait for that hour, and what was acknowledged before is still true.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	st, texts, clock := memstore.New(), smstest.New(), newClock()
	c := config(st, st)
	c.Sender, c.Now = texts, clock.Now
	service := verify.New(c)
	defer service.Close()
	first, err := service.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	broken := c
	broken.Store = storetest.Failing(st, failFrom(2)) // its claim is stored but never ended
	broken.Sender = sms.Func(func(context.Context, sms.Message) error { return errors.New("died") })
	dying := verify.New(broken)
	if _, err := dying.Request(t.Context(), request(2)); err == nil {
		t.Fatal("the node that died responded")
	}
	dying.Close()

	clock.advance(-time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := service.Request(ctx, request(1)); err != nil || len(texts.Calls()) != 1 {
		t.Errorf("the acknowledged attempt: %v, %d SMS", err, len(texts.Calls()))
	}
	second, err := service.Request(ctx, request(2))
	if err != nil || second.SID != first.SID {
		t.Fatalf("the attempt of the node that died: %v", err)
	}
	m, _ := texts.Last()
	if _, err := service.Submit(ctx, verify.Submission{SID: first.SID, ClientSecret: "secret", Token: m.Text}); err != nil {
		t.Errorf("the code: %v", err)
	}
}

// failFrom fails the nth update and all later ones.
func failFrom(n int64) func(op string) error {
	var updates atomic.Int64
	return func(op string) error {
		if op == storetest.OpUpdate && updates.Add(1) >= n {
			return errors.New("gone")
		}
		return nil
	}
}

// TestClockJumpsForwardDuringASend checks that a node does not send again because its clock jumps
// forward during a send.
func TestClockJumpsForwardDuringASend(t *testing.T) {
	t.Parallel()
	st, texts, clock := memstore.New(), smstest.New(), newClock()
	release := texts.Hold()
	c := config(st, st)
	c.Sender, c.Now, c.SendTimeout = texts, clock.Now, time.Minute
	service := verify.New(c)
	defer service.Close()
	errs := make(chan error, 3)
	ask := func() {
		_, err := service.Request(t.Context(), request(1))
		errs <- err
	}
	go ask()
	for len(texts.Calls()) == 0 {
		time.Sleep(time.Millisecond)
	}
	clock.advance(time.Hour)
	go ask()
	go ask()
	time.Sleep(50 * time.Millisecond)
	release()
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := len(texts.Calls()); n != 1 {
		t.Errorf("%d SMS", n)
	}
}

// TestRefusedByAnIdenticalRequest sends one attempt twice. One of the requests takes the last SMS, after
// the limits have allowed the other one and before that claims.
func TestRefusedByAnIdenticalRequest(t *testing.T) {
	t.Parallel()
	_, texts, late := overtakenAt(t, claimStep, request(1))
	if late != nil {
		t.Errorf("refused because of its own SMS: %v", late)
	}
	if n := texts.Count(); n != 1 {
		t.Errorf("%d SMS", n)
	}
}

// oneAtATime returns a service that allows burst SMS to a number.
func oneAtATime(t *testing.T, st store.Store, inner *memstore.Store, sender sms.Sender, burst int) *verify.Service {
	t.Helper()
	c := config(st, inner)
	c.Sender, c.Now = sender, newClock().Now
	c.Limits.PerNumber = []limits.Limit{{Burst: burst, Every: time.Hour}}
	service := verify.New(c)
	t.Cleanup(service.Close)
	return service
}

// letThrough returns how many more SMS to the number the limit allows, at most most.
func letThrough(t *testing.T, service *verify.Service, most int) int {
	t.Helper()
	for i := range most {
		r := request(1)
		r.ClientSecret = fmt.Sprint("another", i)
		if _, err := service.Request(t.Context(), r); err != nil {
			var refusal *verify.Error
			if !errors.As(err, &refusal) || refusal.Code != verify.Limited {
				t.Fatal(err)
			}
			return i
		}
	}
	return most
}

// TestFailedSMSIsGivenBackOnce loses the response of the store when a failed send is recorded, so
// that it is recorded again. The SMS is given back once.
func TestFailedSMSIsGivenBackOnce(t *testing.T) {
	t.Parallel()
	const settleOfTheSecond = 4 // after two claims and one record
	inner, texts := memstore.New(), smstest.New()
	var updates atomic.Int64
	st := storetest.FailingAfter(inner, func(op string) error {
		if op == storetest.OpUpdate && updates.Add(1) == settleOfTheSecond {
			return errors.New("connection lost")
		}
		return nil
	})
	service := oneAtATime(t, st, inner, texts, 3)
	if _, err := service.Request(t.Context(), request(1)); err != nil {
		t.Fatal(err)
	}
	texts.FailAlways(errors.New("down"))
	if _, err := service.Request(t.Context(), request(2)); err == nil {
		t.Fatal("the send did not fail")
	}
	texts.FailAlways(nil)
	if let := letThrough(t, service, 4); let != 2 {
		t.Errorf("with one SMS of three used, %d were allowed", let)
	}
}

// TestFailedSMSIsNotGivenBackTwice validates a session of which one SMS was not sent. Only its
// other SMS is given back, and none of another session.
func TestFailedSMSIsNotGivenBackTwice(t *testing.T) {
	t.Parallel()
	inner, texts := memstore.New(), smstest.New()
	service := oneAtATime(t, inner, inner, texts, 3)
	if let := letThrough(t, service, 1); let != 1 {
		t.Fatal("another session got no SMS")
	}
	texts.FailAlways(errors.New("down"))
	if _, err := service.Request(t.Context(), request(1)); err == nil {
		t.Fatal("the send did not fail")
	}
	texts.FailAlways(nil)
	receipt, err := service.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := texts.Last()
	if _, err := service.Submit(t.Context(), verify.Submission{SID: receipt.SID, ClientSecret: "secret", Token: m.Text}); err != nil {
		t.Fatal(err)
	}
	if let := letThrough(t, service, 5); let != 3 { // one of them is a retry
		t.Errorf("with one SMS of three used, %d were allowed", let-1)
	}
}

// TestRefusedTokensCostNoWrite lets a client submit codes after it has reached its limit. These
// requests do not take the write lock.
func TestRefusedTokensCostNoWrite(t *testing.T) {
	t.Parallel()
	inner, texts := memstore.New(), smstest.New()
	counting := storetest.Counting(inner)
	c := config(counting, inner)
	c.Sender, c.Now = texts, newClock().Now
	c.Limits.WrongCodesPerClient = []limits.Limit{{Burst: 1, Every: time.Hour}}
	service := verify.New(c)
	defer service.Close()
	receipt, err := service.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	submit := func() verify.Code {
		var refusal *verify.Error
		_, err := service.Submit(t.Context(), verify.Submission{SID: receipt.SID, ClientSecret: "secret", Token: "no", Client: "guesser"})
		if !errors.As(err, &refusal) {
			t.Fatal(err)
		}
		return refusal.Code
	}
	if code := submit(); code != verify.TokenIncorrect {
		t.Fatalf("the first: %v", code)
	}
	before := counting.Updates()
	for range 10 {
		if code := submit(); code != verify.Limited {
			t.Errorf("the next: %v", code)
		}
	}
	if n := counting.Updates() - before; n != 0 {
		t.Errorf("%d units that write", n)
	}
}
