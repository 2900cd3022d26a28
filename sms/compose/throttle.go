package compose

import (
	"context"
	"errors"

	"golang.org/x/time/rate"

	"example.com/threepid/sms"
)

// ThrottleOptions are the limits of a provider's account for this process. Zero means no
// limit.
type ThrottleOptions struct {
	Concurrent int     // calls at once
	PerSecond  float64 // calls a second on average
	Burst      int     // calls at one moment. Defaults to 1
}

// errFull wraps no deadline, because nothing was sent.
var errFull = errors.New("compose: the provider's limits left no time for this SMS; nothing was sent")

// Throttle delays messages until the limits allow them. If they do not before the context
// ends, Send returns an error for which another try may work: nothing was sent. The limits
// apply to this process, so two nodes together send twice as many messages.
func Throttle(next sms.Sender, o ThrottleOptions) sms.Sender {
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
