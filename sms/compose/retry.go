package compose

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"example.com/threepid/sms"
)

// RetryOptions configure Retry. The zero value works.
type RetryOptions struct {
	MaxAttempts int           // including the first. Defaults to 3
	Pause       time.Duration // before the second attempt; it doubles. Defaults to 250 ms

	// ContinueOnUncertain tries again also if the SMS may have been sent. It is for
	// providers that send one SMS for one Message.ID. Defaults to false.
	ContinueOnUncertain bool
}

// Retry sends a message again after a temporary failure, with growing random pauses, while
// the context's deadline leaves time for it. It returns the last error. A message that was
// rejected or misconfigured is not sent again.
func Retry(next sms.Sender, o RetryOptions) sms.Sender {
	if o.MaxAttempts == 0 {
		o.MaxAttempts = 3
	}
	if o.Pause <= 0 {
		o.Pause = 250 * time.Millisecond
	}
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		pause := o.Pause
		var perhaps error // of an earlier attempt that may have sent the SMS
		for try := 1; ; try++ {
			err := next.Send(ctx, m)
			again := temporary(err) || o.ContinueOnUncertain && uncertain(err)
			if err == nil || errors.Is(err, sms.ErrRejected) {
				return err
			}
			if !again || try >= o.MaxAttempts || !sleep(ctx, jittered(pause)) {
				return errors.Join(perhaps, err)
			}
			if uncertain(err) {
				perhaps = err
			}
			pause *= 2
		}
	})
}

// jittered returns a random pause between half and one and a half times as long, so that
// messages that failed together are not sent again together.
func jittered(pause time.Duration) time.Duration {
	return pause/2 + rand.N(pause) //nolint:gosec // nobody gains by guessing it
}

// sleep reports whether the pause ended before ctx. It returns at once if ctx ends earlier.
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
