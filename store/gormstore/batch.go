package gormstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
)

// maxBatch bounds how many units share a transaction, and with that how long
// the first of them waits for the last.
const maxBatch = 256

// combiner joins the units that wait for SQLite's one writer into one
// transaction: to make a commit durable takes as long for one unit as for a
// hundred. It waits for nobody. Who comes while the writer is idle is a batch
// of one; who comes while a batch is under way is in the next.
//
// Each unit runs on the goroutine of its own caller, one after the other: the
// batch is handed from caller to caller, and the last one commits. So a panic
// is the caller's whose unit it was, and no goroutine needs to be started or
// stopped.
type combiner struct {
	pool *pool

	mu      sync.Mutex
	busy    bool // a batch is under way
	waiting []*turn
}

// turn is a caller that waits for a batch to come by.
type turn struct {
	ready chan *batch // of capacity 1
	alone bool        // it wants a batch of its own
}

// batch is one transaction and those who share it. It belongs to the caller
// that has it in hand, until done is closed.
type batch struct {
	later []*turn       // who comes after the one that has it in hand
	done  chan struct{} // closed once it is known what was kept; nil for one caller

	tx    *sql.Tx // nil before the first unit
	stmts *[queryCount]*sql.Stmt

	spoiled bool  // nothing is kept
	err     error // why, if it is no unit's doing; for all
	again   bool  // whether err is of a conflict
}

func (b *batch) shared() bool { return b.done != nil }

// run runs fn in a transaction that it may share with others; to its caller it
// is pool.run.
//
// When a statement fails, SQLite may roll back all of the transaction, for want
// of space for example. So the batch is given up then, and each of its units
// runs again by itself: the failure is the failing unit's alone.
func (c *combiner) run(ctx context.Context, fn func(*unit) error) (again bool, err error) {
	for alone := false; ; alone = true {
		b, err := c.enter(ctx, alone)
		if err != nil {
			return false, err
		}
		again, err := c.take(ctx, b, fn)
		if !b.shared() || !b.spoiled || b.err != nil {
			return again, err
		}
	}
}

// enter waits for a batch. It gives up when ctx ends, unless a batch has
// started that counts on this caller.
func (c *combiner) enter(ctx context.Context, alone bool) (*batch, error) {
	c.mu.Lock()
	if !c.busy {
		c.busy = true
		c.mu.Unlock()
		return &batch{}, nil
	}
	t := &turn{ready: make(chan *batch, 1), alone: alone}
	c.waiting = append(c.waiting, t)
	c.mu.Unlock()
	select {
	case b := <-t.ready:
		return b, nil
	case <-ctx.Done():
		if c.leave(t) {
			return nil, ctx.Err()
		}
		return <-t.ready, nil
	}
}

// leave takes a turn out of the queue, if it is still in it.
func (c *combiner) leave(t *turn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.waiting, t)
	if i < 0 {
		return false
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	return true
}

// take runs fn in a batch, and returns when it is known what was kept: what fn
// found may be another unit's work, which is not kept yet.
func (c *combiner) take(ctx context.Context, b *batch, fn func(*unit) error) (again bool, err error) {
	again, err = c.runUnit(ctx, b, fn)
	if b.shared() {
		<-b.done
	}
	if b.err != nil {
		return b.again, b.err
	}
	return again, err
}

func (c *combiner) runUnit(ctx context.Context, b *batch, fn func(*unit) error) (again bool, err error) {
	defer c.pass(b) // also when fn panics, or ends its goroutine
	if b.spoiled {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if b.begin(context.WithoutCancel(ctx), c.pool); b.err != nil {
		return b.again, b.err
	}
	u := &unit{ctx: context.WithoutCancel(ctx), pool: c.pool, tx: b.tx, stmts: b.stmts, guarded: b.shared()}
	kept := false
	defer func() {
		if !kept && !u.undo() {
			b.spoiled = true
		}
	}()
	if err := u.do(fn); err != nil {
		return u.again, err
	}
	kept = true
	return false, nil
}

// begin begins the transaction, if it has not begun.
//
// A transaction that begins by reading can find, when it comes to write, that
// another process has written meanwhile; SQLite then fails at once instead of
// waiting. Taking the write lock first makes a deferred transaction, which is
// what most hosts have, an immediate one.
func (b *batch) begin(ctx context.Context, p *pool) {
	if b.tx != nil {
		return
	}
	b.tx, b.stmts, b.again, b.err = p.begin(ctx)
	if b.err == nil {
		u := &unit{ctx: ctx, pool: p, tx: b.tx, stmts: b.stmts}
		b.err = u.run("take the write lock (inside a transaction of the host's, call Plugin.RedeemTx)", takeLock)
		b.again = u.again
	}
	b.spoiled = b.err != nil
}

// pass hands the batch to the caller whose turn is next. The last one ends it.
func (c *combiner) pass(b *batch) {
	if len(b.later) > 0 {
		next := b.later[0]
		b.later = b.later[1:]
		next.ready <- b
		return
	}
	if b.tx != nil {
		b.end(c.pool)
	}
	c.startNext()
	if b.shared() {
		close(b.done)
	}
}

func (b *batch) end(p *pool) {
	if b.spoiled {
		_ = b.tx.Rollback() // what led here counts
		return
	}
	err := b.tx.Commit()
	b.spoiled = err != nil
	if err != nil && !b.shared() {
		b.err = fmt.Errorf("gormstore: commit: %w", err)
		b.again = p.classify(err) == conflictBusy
	}
}

// startNext starts a batch of those who have come meanwhile.
func (c *combiner) startNext() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		c.busy = false
		return
	}
	n := 1
	for !c.waiting[0].alone && n < min(len(c.waiting), maxBatch) && !c.waiting[n].alone {
		n++
	}
	turns := slices.Clone(c.waiting[:n])
	c.waiting = slices.Delete(c.waiting, 0, n)
	b := &batch{later: turns[1:]}
	if n > 1 {
		b.done = make(chan struct{})
	}
	turns[0].ready <- b
}
