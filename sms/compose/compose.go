// Package compose combines Senders: [Failover] to other providers, [Route] by number,
// [Retry], [Throttle], and [WithSenderIDs] by country. They can be nested. A good order,
// from the outside in, is
//
//	Route → Failover → Retry → Throttle → provider
//
// All of them act on the class of Send's error: see package sms.
package compose

import (
	"context"
	"errors"
	"maps"

	"example.com/threepid/sms"
)

// uncertain reports whether the SMS may have been sent in spite of the error.
func uncertain(err error) bool {
	return errors.Is(err, sms.ErrUncertain) || errors.Is(err, context.DeadlineExceeded)
}

// temporary reports whether the same provider may accept the SMS in a moment.
func temporary(err error) bool {
	return err != nil && !errors.Is(err, sms.ErrRejected) && !errors.Is(err, sms.ErrMisconfigured) &&
		!uncertain(err) && !errors.Is(err, context.Canceled)
}

// WithSenderIDs sets the sender ID of messages to some countries, for those that require a
// local number or a registered name. from maps Message.Country to Message.From; messages to
// other countries are not changed. The map is copied.
func WithSenderIDs(next sms.Sender, from map[string]string) sms.Sender {
	from = maps.Clone(from)
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		if name, ok := from[m.Country]; ok {
			m.From = name
		}
		return next.Send(ctx, m)
	})
}
