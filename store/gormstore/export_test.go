package gormstore

import (
	"context"
	"time"
)

// MaxBatch is how many units share a batch at most.
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

// SetStallTimeout sets after what time a batch is not waited for any longer. No
// unit may be under way.
func SetStallTimeout(s *Store, d time.Duration) {
	for _, set := range []func(time.Duration){s.updates.setStall, s.retries.setStall, s.views.setStall} {
		set(d)
	}
}

// Pause is what a unit waits before another try.
func Pause(ctx context.Context, try int) error { return pause(ctx, try) }
