package compose

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"example.com/threepid/sms"
)

// RetryOptions adjust a Retry. The zero value works.
type RetryOptions struct {
	Tries int           // in all. Default 3
	Pause time.Duration // before the second; it doubles. Default 250 ms

	// AfterUncertain also tries again when the text may have left. It is for
	// providers that send one text for one Message.ID. Default: not.
	AfterUncertain bool
}

// Retry sends again what failed for a reason that may pass, with growing, random
// pauses, as long as the context's deadline leaves time for it. It returns the last
// error. What is rejected or misconfigured is not sent again.
func Retry(next sms.Sender, o RetryOptions) sms.Sender {
	if o.Tries == 0 {
		o.Tries = 3
	}
	if o.Pause <= 0 {
		o.Pause = 250 * time.Millisecond
	}
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		pause := o.Pause
		var perhaps error // of a try before, by which the text may have left
		for try := 1; ; try++ {
			err := next.Send(ctx, m)
			again := temporary(err) || o.AfterUncertain && uncertain(err)
			if err == nil || errors.Is(err, sms.ErrRejected) {
				return err
			}
			if !again || try >= o.Tries || !sleep(ctx, jittered(pause)) {
				return errors.Join(perhaps, err)
			}
			if uncertain(err) {
				perhaps = err
			}
			pause *= 2
		}
	})
}

// jittered is a pause of half to one and a half times as long, so that all who failed
// together come again together.
func jittered(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause) //nolint:gosec // nobody gains by guessing it
}

// sleep returns false, at once, when ctx ends before the pause does.
func sleep(ctx context.Context, pause time.Duration) bool {
	deadline, ok := ctx.Deadline()
	if ctx.Err() != nil || ok && time.Until(deadline) < pause {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
