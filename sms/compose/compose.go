// Package compose makes Senders of Senders: Failover, Route, Retry, Cap and
// Identify. They can be nested; a good order is, from the outside in,
//
//	Route → Failover → Retry → Cap → provider
//
// All of them go by what an error of Send says: see package sms.
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

// Identify has messages to some countries be from somebody else, where a
// country demands a number of its own or a registered name. from has what
// Message.From becomes, by Message.Country; all else is left alone. It is copied.
func Identify(next sms.Sender, from map[string]string) sms.Sender {
	from = maps.Clone(from)
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		if name, ok := from[m.Country]; ok {
			m.From = name
		}
		return next.Send(ctx, m)
	})
}
