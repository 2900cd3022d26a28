package verify

import (
	"context"
	"time"

	"example.com/threepid/store"
)

const (
	// A request that waits for another node's send reads the store at these intervals.
	minPoll = 20 * time.Millisecond
	maxPoll = 320 * time.Millisecond

	// waitAgain is how long a request must wait that found too many others waiting.
	waitAgain = 2 * time.Second
)

// patience bounds how long one request waits for others, whether in memory or on
// another node: long enough for two sends, so that a request after another attempt of the
// same session gets its turn.
type patience <-chan time.Time

func (s *Service) newPatience() patience { return time.After(2 * s.lifetimes.lease) }

// await waits until the flight that another request leads has ended.
func (s *Service) await(ctx context.Context, fl *flight, p patience) error {
	if !s.flights.startWaiting(fl) {
		return errLimited(waitAgain)
	}
	defer s.flights.stopWaiting(fl)
	select {
	case <-fl.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p:
		return outcomeError(store.OutcomeFailed)
	}
}

// pause waits until the state of another node's send is to be read again.
func (s *Service) pause(ctx context.Context, poll time.Duration, p patience) error {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p:
		return outcomeError(store.OutcomeFailed)
	}
}
