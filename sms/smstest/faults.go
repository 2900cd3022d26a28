package smstest

import (
	"context"
	"sync/atomic"
	"time"

	"example.com/threepid/sms"
)

// FailFirst returns a sender whose first n calls fail with err. Later calls go to s.
func FailFirst(s sms.Sender, n int, err error) sms.Sender {
	var calls atomic.Int64
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		if calls.Add(1) <= int64(n) {
			return err
		}
		return s.Send(ctx, m)
	})
}

// Delay returns a sender that waits for d, or until the context ends, before it passes a
// message to s.
func Delay(s sms.Sender, d time.Duration) sms.Sender {
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return s.Send(ctx, m)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// AcceptThenFail returns a sender that passes a message to s and then fails with err, like a
// provider whose response was lost.
func AcceptThenFail(s sms.Sender, err error) sms.Sender {
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		if sent := s.Send(ctx, m); sent != nil {
			return sent
		}
		return err
	})
}

// Hang returns a sender that returns when its context ends, with the error of the context.
func Hang() sms.Sender {
	return sms.Func(func(ctx context.Context, _ sms.Message) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

// Panicking returns a sender that panics with v.
func Panicking(v any) sms.Sender {
	return sms.Func(func(context.Context, sms.Message) error { panic(v) })
}
