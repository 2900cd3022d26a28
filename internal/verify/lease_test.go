package verify_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// late is a store whose units take time on a clock that tests set: before their rows are loaded,
// and after the commit.
type late struct {
	store.Store
	lock, commit func()
}

func (l *late) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	err := l.Store.Update(ctx, names, func(rows *store.Rows) error {
		l.lock()
		return change(rows)
	})
	l.commit()
	return err
}

// once returns a function that advances the clock at its first call.
func once(c *clock, by time.Duration) func() {
	done := false
	return func() {
		if !done {
			done = true
			c.advance(by)
		}
	}
}

// TestClaimThatTookTooLong delays a request by more than the margin of its lease, between reading
// the clock and calling the provider. The provider needs 0.9 of the second that it may take, and a
// retry arrives at another node shortly before it returns. Only one SMS may be sent.
func TestClaimThatTookTooLong(t *testing.T) {
	t.Parallel()
	const delay = 5500 * time.Millisecond
	for name, change := range map[string]func(*verify.Config, *late, *clock){
		"slow lock":   func(_ *verify.Config, l *late, c *clock) { l.lock = once(c, delay) },
		"slow COMMIT": func(_ *verify.Config, l *late, c *clock) { l.commit = once(c, delay) },
		"pause before the call": func(c *verify.Config, _ *late, clock *clock) {
			c.Text = codeAfter(once(clock, delay))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner, texts, clock := memstore.New(), smstest.New(), newClock()
			c := config(inner, inner)
			c.Now, c.Sender = clock.Now, texts
			second := verify.New(c)
			defer second.Close()

			retried := make(chan error, 1)
			c.Sender = sms.Func(func(ctx context.Context, m sms.Message) error {
				clock.advance(900 * time.Millisecond)
				go func() {
					_, err := second.Request(context.WithoutCancel(ctx), request(1))
					retried <- err
				}()
				time.Sleep(200 * time.Millisecond) // long enough to send
				return texts.Send(ctx, m)
			})
			slow := &late{Store: inner, lock: func() {}, commit: func() {}}
			c.Store = slow
			change(&c, slow, clock)
			first := verify.New(c)
			defer first.Close()
			if _, err := first.Request(t.Context(), request(1)); err != nil {
				t.Errorf("the first request: %v", err)
			}
			if err := <-retried; err != nil {
				t.Errorf("the retry: %v", err)
			}
			if n := texts.Count(); n != 1 {
				t.Errorf("%d SMS were sent, want 1", n)
			}
		})
	}
}

// TestClaimOvertakenBeforeTheCall pauses a request for longer than its lease, just before it calls
// the provider. In the meantime another node sends the retry.
func TestClaimOvertakenBeforeTheCall(t *testing.T) {
	t.Parallel()
	inner, texts, clock := memstore.New(), smstest.New(), newClock()
	c := config(inner, inner)
	c.Now, c.Sender = clock.Now, texts
	second := verify.New(c)
	defer second.Close()
	c.Text = codeAfter(func() {
		clock.advance(time.Minute)
		if _, err := second.Request(t.Context(), request(1)); err != nil {
			t.Errorf("the retry: %v", err)
		}
	})
	first := verify.New(c)
	defer first.Close()
	if _, err := first.Request(t.Context(), request(1)); err != nil {
		t.Errorf("the first request: %v", err)
	}
	if n := texts.Count(); n != 1 {
		t.Errorf("%d SMS were sent, want 1", n)
	}
}

// TestStoreSlowerThanALease lets each commit take nearly a complete lease. No SMS is sent, because
// another node might send it too, and the attempt is not charged to any limit.
func TestStoreSlowerThanALease(t *testing.T) {
	t.Parallel()
	inner, texts, clock := memstore.New(), smstest.New(), newClock()
	c := config(inner, inner)
	c.Now, c.Sender = clock.Now, texts
	c.Limits.PerNumber = []limits.Limit{{Burst: 1, Every: 24 * time.Hour}}
	quick := verify.New(c)
	defer quick.Close()
	c.Store = &late{Store: inner, lock: func() {}, commit: func() { clock.advance(5500 * time.Millisecond) }}
	slow := verify.New(c)
	defer slow.Close()
	var refusal *verify.Error
	if _, err := slow.Request(t.Context(), request(1)); err == nil || errors.As(err, &refusal) {
		t.Errorf("error %v, want one that says the store is too slow", err)
	}
	if n := texts.Count(); n != 0 {
		t.Fatalf("%d SMS were sent", n)
	}
	if _, err := quick.Request(t.Context(), request(1)); err != nil {
		t.Errorf("the next try, with a store that is quick again: %v", err)
	}
}

// TestFailedRetryOfAnUncertainSMS repeats an SMS that may have been sent. The repetition fails for
// certain or is not sent. The SMS is charged once, and further tries are still free.
func TestFailedRetryOfAnUncertainSMS(t *testing.T) {
	t.Parallel()
	for name, retry := range map[string]func(c verify.Config, texts *smstest.Recorder, clock *clock) error{
		"fails": func(c verify.Config, texts *smstest.Recorder, _ *clock) error {
			texts.Fail(errors.New("no route"))
			service := verify.New(c)
			defer service.Close()
			_, err := service.Request(context.Background(), request(1))
			return err
		},
		"store too slow": func(c verify.Config, _ *smstest.Recorder, clock *clock) error {
			c.Store = &late{Store: c.Store, lock: func() {}, commit: func() { clock.advance(5500 * time.Millisecond) }}
			service := verify.New(c)
			defer service.Close()
			_, err := service.Request(context.Background(), request(1))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner, texts, clock := memstore.New(), smstest.New(), newClock()
			service := oneAtATime(t, inner, inner, texts, 1)
			texts.Fail(sms.ErrUncertain)
			if _, err := service.Request(t.Context(), request(1)); err == nil {
				t.Fatal("an uncertain SMS was reported as sent")
			}
			c := config(inner, inner)
			c.Sender, c.Now = texts, clock.Now
			c.Limits.PerNumber = []limits.Limit{{Burst: 1, Every: time.Hour}}
			if err := retry(c, texts, clock); err == nil {
				t.Fatal("the retry succeeded")
			}
			if _, err := service.Request(t.Context(), request(1)); err != nil {
				t.Errorf("the next try: %v", err)
			}
		})
	}
}
