package gormstore

import (
	"context"
	"time"
)

// MaxBatch is the maximum number of units in a batch.
const MaxBatch = maxBatch

// Waiting returns how many units wait for a batch.
func Waiting(s *Store) int {
	s.updates.mu.Lock()
	defer s.updates.mu.Unlock()
	return len(s.updates.waiting)
}

func (g *group[T]) setStall(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stall = d
}

// SetStallTimeout sets how long a batch is waited for. No unit may be in progress.
func SetStallTimeout(s *Store, d time.Duration) {
	for _, set := range []func(time.Duration){s.updates.setStall, s.retries.setStall, s.views.setStall} {
		set(d)
	}
}

// Pause waits as a unit does before another try.
func Pause(ctx context.Context, try int) error { return pause(ctx, try) }
