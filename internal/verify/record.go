package verify

import (
	"context"
	"time"

	"example.com/threepid/observe"
)

const (
	// recordInterval is how often the history is written.
	recordInterval = 2 * time.Second

	// failingInterval is how long the next try waits while the database fails. On SQLite each try
	// waits for a lock as a request does, and requests wait for it.
	failingInterval = 20 * time.Second

	// recordLastTimeout bounds how long Close waits for it. Receipts that wait for their SMS get half of
	// the time.
	recordLastTimeout = 2 * time.Second
)

// recordUntilClosed writes the history every two seconds until Close. It has a goroutine of its
// own: the guard must not wait for a database that is slow to write the journal.
func (s *Service) recordUntilClosed() {
	if s.history == nil {
		return
	}
	failing := false
	for {
		pause := recordInterval
		if failing {
			pause = failingInterval
		}
		select {
		case <-s.closing.Done():
			return
		case <-time.After(pause):
		}
		err := s.recordOnce()
		if err != nil && !failing && s.closing.Err() == nil {
			s.Logger.Error("threepid: statistics and journal cannot be stored; trying again every 20 seconds", "error", err)
		}
		failing = err != nil
		if n := s.history.Dropped(); n > 0 {
			s.Logger.Error("threepid: events are missing in the journal, because too many waited for the database", "events", n)
		}
	}
}

// recordOnce writes the history, and then records the receipts that wait for their SMS: many of them
// must not take the time that the history needs.
func (s *Service) recordOnce() error {
	ctx, cancel := context.WithTimeout(s.closing, storeTimeout)
	defer cancel()
	err := s.history.Flush(ctx)
	s.settleReceipts(ctx, false)
	return err
}

// recordLast writes the history when the service is closed.
func (s *Service) recordLast() {
	ctx, cancel := context.WithTimeout(context.Background(), recordLastTimeout)
	defer cancel()
	half, cancelHalf := context.WithTimeout(ctx, recordLastTimeout/2)
	defer cancelHalf()
	s.settleReceipts(half, true)
	if err := s.history.Flush(ctx); err != nil {
		s.Logger.Error("threepid: the latest statistics and journal are lost: the database fails", "error", err)
	}
}

// Statistics returns what happened in the hours from and until then.
func (s *Service) Statistics(ctx context.Context, from, to time.Time) ([]observe.Statistic, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	return s.history.Read(ctx, from, to)
}

// Actions returns what operators did since a time, the latest first.
func (s *Service) Actions(ctx context.Context, since time.Time, limit int) ([]observe.Action, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	events, err := s.history.Actions(ctx, since, limit)
	actions := make([]observe.Action, 0, len(events))
	for _, e := range events {
		if a, ok := e.(observe.Action); ok {
			actions = append(actions, a)
		}
	}
	return actions, err
}
