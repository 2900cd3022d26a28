package verify_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/storetest"
)

// eventually waits until a condition is true.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// TestResendWhileAnAcceptedSMSIsNotRecorded checks that requests do not ask the store repeatedly.
func TestResendWhileAnAcceptedSMSIsNotRecorded(t *testing.T) {
	t.Parallel()
	inner, texts := memstore.New(), smstest.New()
	var broken atomic.Bool
	counting := storetest.Counting(storetest.Failing(inner, func(op string) error {
		if op == storetest.OpUpdate && broken.Load() {
			return errors.New("gone")
		}
		return nil
	}))
	c := config(counting, inner)
	c.Sender = sms.Func(func(ctx context.Context, m sms.Message) error {
		broken.Store(m.Attempt == 1)
		return texts.Send(ctx, m)
	})
	service := verify.New(c)
	defer service.Close()
	_, _ = service.Request(t.Context(), request(1))

	before := counting.Views()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := service.Request(ctx, request(2)); err == nil {
		t.Error("a resend succeeded although nothing can be written")
	}
	if n := counting.Views() - before; n > 10 {
		t.Errorf("one request read the store %d times", n)
	}
	broken.Store(false)
	if _, err := service.Request(t.Context(), request(2)); err != nil {
		t.Errorf("the resend, when the store works again: %v", err)
	}
	if n := texts.Count(); n != 2 {
		t.Errorf("%d SMS were sent, want 2", n)
	}
}

// TestCloseWhileRequestsWait calls Close while two requests wait for one that is sending, one for
// the same attempt and one for the next. Close takes as long as the send, and the next attempt is
// not sent afterwards.
func TestCloseWhileRequestsWait(t *testing.T) {
	t.Parallel()
	inner := memstore.New()
	var calls atomic.Int64
	c := config(inner, inner)
	c.Sender = sms.Func(func(context.Context, sms.Message) error {
		calls.Add(1)
		time.Sleep(2 * time.Second)
		return nil
	})
	service := verify.New(c)
	errs := make(chan error, 3)
	ask := func(attempt int64) {
		_, err := service.Request(t.Context(), request(attempt))
		errs <- err
	}
	go ask(1)
	eventually(t, "the provider is called", func() bool { return calls.Load() == 1 })
	go ask(1)
	go ask(2)
	time.Sleep(100 * time.Millisecond) // they are waiting now
	begin := time.Now()
	service.Close()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Close took %v with a SendTimeout of 1s", took)
	}
	closed := 0
	for range 3 {
		if err := <-errs; errors.Is(err, verify.ErrClosed) {
			closed++
		}
	}
	if closed != 2 || calls.Load() != 1 {
		t.Errorf("%d requests of 2 that waited ended with ErrClosed; %d sends, want 1", closed, calls.Load())
	}
}

// TestCloseBeforeTheCall calls Close while a claim is being committed. The claim is given back, and
// nothing is sent.
func TestCloseBeforeTheCall(t *testing.T) {
	t.Parallel()
	inner, texts := memstore.New(), smstest.New()
	c := config(inner, inner)
	c.Sender = texts
	c.Limits.PerNumber = []limits.Limit{{Burst: 1, Every: time.Hour}}
	var service *verify.Service
	closed := make(chan struct{})
	var once sync.Once
	c.Store = &late{Store: inner, lock: func() {}, commit: func() {
		once.Do(func() {
			go func() {
				defer close(closed)
				service.Close()
			}()
			eventually(t, "Close was called", func() bool {
				_, err := service.Validated(t.Context(), "sid", "secret")
				return errors.Is(err, verify.ErrClosed)
			})
		})
	}}
	service = verify.New(c)
	if _, err := service.Request(t.Context(), request(1)); !errors.Is(err, verify.ErrClosed) {
		t.Errorf("error %v", err)
	}
	<-closed
	if n := texts.Count(); n != 0 {
		t.Errorf("%d SMS were sent", n)
	}
	c.Store = inner
	next := verify.New(c)
	defer next.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := next.Request(ctx, request(1)); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// TestCloseWhileAnotherNodeSends checks that Close does not wait for another node, which may be
// dead.
func TestCloseWhileAnotherNodeSends(t *testing.T) {
	t.Parallel()
	inner, texts := memstore.New(), smstest.New()
	release := texts.Hold()
	c := config(inner, inner)
	c.Sender, c.SendTimeout = texts, time.Minute
	sending, waiting := verify.New(c), verify.New(c)
	defer sending.Close()
	defer release()
	go func() { _, _ = sending.Request(t.Context(), request(1)) }()
	eventually(t, "the provider is called", func() bool { return len(texts.Calls()) == 1 })
	ended := make(chan error, 1)
	go func() {
		_, err := waiting.Request(t.Context(), request(1))
		ended <- err
	}()
	time.Sleep(100 * time.Millisecond) // it is waiting now
	begin := time.Now()
	waiting.Close()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Close took %v", took)
	}
	if err := <-ended; !errors.Is(err, verify.ErrClosed) {
		t.Errorf("the request that waited: %v", err)
	}
}

// TestWaitersDoNotPoll lets many requests wait for one send on their own node, some for the same
// attempt and some for a new one. They do not read the store in the meantime.
func TestWaitersDoNotPoll(t *testing.T) {
	t.Parallel()
	const each = 50
	inner, texts := memstore.New(), smstest.New()
	release := texts.Hold()
	counting := storetest.Counting(inner)
	c := config(counting, inner)
	c.Sender, c.SendTimeout = texts, time.Minute
	service := verify.New(c)
	defer service.Close()
	var wg sync.WaitGroup
	ask := func(attempt int64) {
		wg.Go(func() {
			if _, err := service.Request(t.Context(), request(attempt)); err != nil {
				t.Error(err)
			}
		})
	}
	ask(2)
	eventually(t, "the provider is called", func() bool { return len(texts.Calls()) == 1 })
	before := counting.Views()
	for range each {
		ask(1)
		ask(2)
	}
	time.Sleep(time.Second)
	release()
	wg.Wait()
	if n := counting.Views() - before; n > 3*each {
		t.Errorf("%d requests that waited read the store %d times", 2*each, n)
	}
	if n := texts.Count(); n != 1 {
		t.Errorf("%d SMS were sent, want 1", n)
	}
}

// TestWaitersOnAnotherNode checks that one request polls the store for all that wait.
func TestWaitersOnAnotherNode(t *testing.T) {
	t.Parallel()
	const callers = 50
	inner, texts := memstore.New(), smstest.New()
	release := texts.Hold()
	counting := storetest.Counting(inner)
	c := config(inner, inner)
	c.Sender, c.SendTimeout = texts, time.Minute
	sending := verify.New(c)
	defer sending.Close()
	c.Store = counting
	waiting := verify.New(c)
	defer waiting.Close()
	var wg sync.WaitGroup
	ask := func(service *verify.Service) {
		wg.Go(func() {
			if _, err := service.Request(t.Context(), request(1)); err != nil {
				t.Error(err)
			}
		})
	}
	ask(sending)
	eventually(t, "the provider is called", func() bool { return len(texts.Calls()) == 1 })
	for range callers {
		ask(waiting)
	}
	time.Sleep(time.Second)
	release()
	wg.Wait()
	if n := counting.Views(); n > callers {
		t.Errorf("%d requests that waited for another node read the store %d times", callers, n)
	}
}

// TestWaitersAreBounded sends more requests for one session than may wait.
func TestWaitersAreBounded(t *testing.T) {
	t.Parallel()
	const callers = 400
	inner, texts := memstore.New(), smstest.New()
	release := texts.Hold()
	c := config(inner, inner)
	c.Sender, c.SendTimeout = texts, time.Minute
	service := verify.New(c)
	defer service.Close()
	var limited atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			_, err := service.Request(t.Context(), request(1))
			var refusal *verify.Error
			switch {
			case err == nil:
			case errors.As(err, &refusal) && refusal.Code == verify.Limited && refusal.RetryAfter > 0:
				limited.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	eventually(t, "some are refused", func() bool { return limited.Load() > 0 })
	time.Sleep(100 * time.Millisecond)
	release()
	wg.Wait()
	if n := limited.Load(); n < 100 || n > callers-200 {
		t.Errorf("%d of %d were refused", n, callers)
	}
	if n := texts.Count(); n != 1 {
		t.Errorf("%d SMS were sent, want 1", n)
	}
	if _, err := service.Request(t.Context(), request(1)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestNodeThatLosesItsDatabase sends an SMS and cannot record it. Another node sends it again after
// the lease, so the first one must not return 200.
func TestNodeThatLosesItsDatabase(t *testing.T) {
	t.Parallel()
	inner, texts, clock := memstore.New(), smstest.New(), newClock()
	c := config(inner, inner)
	c.Sender, c.Now = texts, clock.Now
	other := verify.New(c)
	defer other.Close()
	c.Store = storetest.Failing(inner, failFrom(2))
	cut := verify.New(c)
	defer cut.Close()
	for range 2 { // the second time, the node remembers
		if _, err := cut.Request(t.Context(), request(1)); err == nil {
			t.Error("it returned success although no other node knows of the SMS")
		}
	}
	if n := texts.Count(); n != 1 {
		t.Fatalf("%d SMS were sent, want 1", n)
	}
	clock.advance(time.Minute)
	receipt, err := other.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	calls := texts.Calls()
	if len(calls) != 2 || calls[0].ID != calls[1].ID || calls[0].Text != calls[1].Text {
		t.Errorf("the other node sent another message: %+v", calls)
	}
	_, err = other.Submit(t.Context(), verify.Submission{SID: receipt.SID, ClientSecret: "secret", Token: calls[0].Text})
	if err != nil {
		t.Errorf("the code of the first SMS: %v", err)
	}
}

// TestCloseRecordsWhatItCan makes the database work again just before Close, which records the SMS.
func TestCloseRecordsWhatItCan(t *testing.T) {
	t.Parallel()
	inner, texts := memstore.New(), smstest.New()
	var broken atomic.Bool
	c := config(storetest.Failing(inner, func(op string) error {
		if op == storetest.OpUpdate && broken.Load() {
			return errors.New("gone")
		}
		return nil
	}), inner)
	c.Sender = sms.Func(func(ctx context.Context, m sms.Message) error {
		broken.Store(true)
		return texts.Send(ctx, m)
	})
	service := verify.New(c)
	_, _ = service.Request(t.Context(), request(1))
	broken.Store(false)
	service.Close()
	if sess := viewKey(t, inner); sess.Attempt != 1 {
		t.Errorf("attempt %d is on record", sess.Attempt)
	}
}
