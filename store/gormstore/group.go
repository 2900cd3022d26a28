package gormstore

import (
	"sync"
	"time"
)

const (
	// maxBatch bounds how many calls share a statement, and with that how long the
	// first of them waits for the last.
	maxBatch = 128

	// stallTimeout is after what time the next batch no longer waits for one that is
	// under way, such as one whose connection is dead. maxBatches bounds how many are
	// under way then.
	stallTimeout = 500 * time.Millisecond
	maxBatches   = 5
)

// group joins calls into batches. It waits for nobody: a call that finds no batch
// under way is a batch of its own at once, and those that come while one is under
// way are the next.
type group[T any] struct {
	run   func([]T)
	stall time.Duration

	mu      sync.Mutex
	waiting []T
	busy    bool
	batches chan struct{} // one for each batch under way
}

func newGroup[T any](run func([]T)) *group[T] {
	return &group[T]{run: run, stall: stallTimeout, batches: make(chan struct{}, maxBatches)}
}

// add has call run in the next batch.
func (g *group[T]) add(call T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, call)
	if !g.busy {
		g.busy = true
		go g.loop()
	}
}

func (g *group[T]) loop() {
	for batch, stall := g.next(); batch != nil; batch, stall = g.next() {
		g.batches <- struct{}{}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { <-g.batches }()
			g.run(batch)
		}()
		timer := time.NewTimer(stall)
		select {
		case <-done:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// next returns the next batch, and how long it is waited for.
func (g *group[T]) next() (batch []T, stall time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), maxBatch)
	if n == 0 {
		g.busy = false
		return nil, 0
	}
	batch = g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	return batch, g.stall
}
