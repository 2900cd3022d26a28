package storetest

import (
	"context"
	"sync/atomic"
	"time"

	"example.com/threepid/store"
)

// The operations that the wrappers distinguish.
const (
	OpView   = "view"   // Store.View
	OpUpdate = "update" // Store.Update
	OpDelete = "delete" // Store.DeleteExpired
)

// Failing returns a store that calls fail before each operation. If fail returns an error, the
// operation is not run and returns that error, as if the database could not be reached. fail may be
// called from many goroutines.
func Failing(s store.Store, fail func(op string) error) store.Store {
	return &failing{inner: s, before: fail, after: func(string) error { return nil }}
}

// FailingAfter returns a store that calls fail after each operation that succeeded, and returns its
// error, if any: as if the connection was lost between the commit and its confirmation, so that the
// caller cannot know the outcome. fail may be called from many goroutines.
func FailingAfter(s store.Store, fail func(op string) error) store.Store {
	return &failing{inner: s, before: func(string) error { return nil }, after: fail}
}

type failing struct {
	inner         store.Store
	before, after func(op string) error
}

func (f *failing) do(op string, run func() error) error {
	if err := f.before(op); err != nil {
		return err
	}
	if err := run(); err != nil {
		return err
	}
	return f.after(op)
}

// View implements [store.Store].
func (f *failing) View(ctx context.Context, names store.Names) (rows store.Rows, err error) {
	err = f.do(OpView, func() (err error) {
		rows, err = f.inner.View(ctx, names)
		return err
	})
	if err != nil {
		return store.Rows{}, err
	}
	return rows, nil
}

// Update implements [store.Store].
func (f *failing) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	return f.do(OpUpdate, func() error { return f.inner.Update(ctx, names, change) })
}

// DeleteExpired implements [store.Store].
func (f *failing) DeleteExpired(ctx context.Context, now time.Time, limit int) (n int, err error) {
	err = f.do(OpDelete, func() (err error) {
		n, err = f.inner.DeleteExpired(ctx, now, limit)
		return err
	})
	return n, err
}

// Counter is a store that counts its operations. Make one with [Counting].
type Counter struct {
	inner                   store.Store
	views, updates, deletes atomic.Int64
}

var (
	_ store.Store = (*Counter)(nil)
	_ store.Store = (*failing)(nil)
)

// Counting returns a store that counts the calls of s, including failed ones.
func Counting(s store.Store) *Counter { return &Counter{inner: s} }

// Views returns how often View was called.
func (c *Counter) Views() int { return int(c.views.Load()) }

// Updates returns how often Update was called.
func (c *Counter) Updates() int { return int(c.updates.Load()) }

// Deletes returns how often DeleteExpired was called.
func (c *Counter) Deletes() int { return int(c.deletes.Load()) }

// View implements [store.Store].
func (c *Counter) View(ctx context.Context, names store.Names) (store.Rows, error) {
	c.views.Add(1)
	return c.inner.View(ctx, names)
}

// Update implements [store.Store].
func (c *Counter) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	c.updates.Add(1)
	return c.inner.Update(ctx, names, change)
}

// DeleteExpired implements [store.Store].
func (c *Counter) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	c.deletes.Add(1)
	return c.inner.DeleteExpired(ctx, now, limit)
}
