package compose

import (
	"context"
	"errors"

	"golang.org/x/time/rate"

	"example.com/threepid/sms"
)

// CapOptions are what a provider's account allows this process. Zero is no cap.
type CapOptions struct {
	Concurrent int     // sends at once
	PerSecond  float64 // sends a second, in the long run
	Burst      int     // sends at one moment; default 1
}

// errFull wraps no deadline: nothing has left.
var errFull = errors.New("compose: no room within the time for a send; nothing was sent")

// Cap holds messages back until the account allows them. When it will not before
// the context ends, Send fails with an error that another try may cure: nothing has
// left. The cap is this process's: two nodes send twice as much.
func Cap(next sms.Sender, o CapOptions) sms.Sender {
	limit := rate.Limit(o.PerSecond)
	if o.PerSecond <= 0 {
		limit = rate.Inf
	}
	limiter := rate.NewLimiter(limit, max(o.Burst, 1))
	var slots chan struct{}
	if o.Concurrent > 0 {
		slots = make(chan struct{}, o.Concurrent)
	}
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		if slots != nil {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return errFull
			}
		}
		if limiter.Wait(ctx) != nil {
			return errFull
		}
		return next.Send(ctx, m)
	})
}
