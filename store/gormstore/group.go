package gormstore

import (
	"math"
	"sync"
	"time"
)

const (
	// maxBatch is how many calls share a statement. It bounds how long the first of them waits for
	// the last.
	maxBatch = 128

	// stallTimeout is how long the next batch waits for the one in progress, whose connection may
	// be dead. After that it begins; at most maxBatches are in progress.
	stallTimeout = 500 * time.Millisecond
	maxBatches   = 5

	// noStall makes the next batch wait for the one in progress, however long that takes.
	noStall = time.Duration(math.MaxInt64)
)

// group joins calls into batches, without a delay. If no batch is in progress, a call runs at once,
// as a batch of one. The calls that arrive during a batch form the next one.
type group[T any] struct {
	run   func([]T)
	stall time.Duration

	mu      sync.Mutex
	waiting []T
	busy    bool
	batches chan struct{} // has a value for each batch in progress
}

func newGroup[T any](run func([]T)) *group[T] {
	return &group[T]{run: run, stall: stallTimeout, batches: make(chan struct{}, maxBatches)}
}

// add runs a call in the next batch.
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

// next returns the next batch, and how long the batch after it waits for it.
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
