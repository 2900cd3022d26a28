package history_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"example.com/threepid/store"
)

// brokenStore is a store whose Update is not serializable for some units: it does
// not notice what others write between its reads and its writes. The checker must
// find that. All that depends on how a unit of work is written is in this file.
type brokenStore struct {
	bothStores

	breaks func(store.Session) bool // whether a unit that writes this session is broken
	pause  time.Duration            // between reads and writes
}

// Update reads in one unit and writes in another.
func (b *brokenStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	var unit *unsafeTx
	err := b.View(ctx, func(tx store.Tx) error {
		unit = &unsafeTx{Tx: tx}
		return fn(unit)
	})
	if !slices.ContainsFunc(unit.sessions, b.breaks) {
		return b.bothStores.Update(ctx, fn)
	}
	if err != nil {
		return err
	}
	time.Sleep(b.pause)
	return b.bothStores.Update(ctx, unit.write)
}

// unsafeTx keeps what a unit writes.
type unsafeTx struct {
	store.Tx
	sessions []store.Session
	buckets  []store.Bucket
}

func (u *unsafeTx) PutSession(s store.Session) error {
	u.sessions = append(u.sessions, s)
	return nil
}

func (u *unsafeTx) PutBuckets(buckets []store.Bucket) error {
	u.buckets = append(u.buckets, buckets...)
	return nil
}

// write writes that over whatever there is by now.
func (u *unsafeTx) write(tx store.Tx) error {
	for _, s := range u.sessions {
		if _, err := tx.SessionByKey(s.Key); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := tx.PutSession(s); err != nil {
			return err
		}
	}
	for _, b := range u.buckets {
		if _, err := tx.Buckets([]store.Key{b.Key}); err != nil {
			return err
		}
		if err := tx.PutBuckets([]store.Bucket{b}); err != nil {
			return err
		}
	}
	return nil
}
