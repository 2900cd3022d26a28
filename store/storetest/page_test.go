package storetest_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// TestStoreOfAPage is the recipe for a store of one's own: docs/RECIPES.md.
func TestStoreOfAPage(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) store.Store { return &pageStore{} })
}

// pageStore runs one unit of work after the other, each on a copy of everything,
// which takes the place of what there was if the unit ends well.
type pageStore struct {
	mu sync.Mutex
	contents
}

type contents struct {
	sessions map[store.Key]store.Session
	buckets  map[store.Key]store.Bucket
}

func (s *pageStore) View(ctx context.Context, fn func(store.Tx) error) error {
	return s.unit(ctx, &pageTx{readOnly: true}, fn)
}

func (s *pageStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.unit(ctx, &pageTx{}, fn)
}

func (s *pageStore) unit(ctx context.Context, tx *pageTx, fn func(store.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	tx.known = make(map[store.Key]bool)
	tx.contents = contents{maps.Clone(s.sessions), maps.Clone(s.buckets)}
	if tx.sessions == nil {
		tx.contents = contents{make(map[store.Key]store.Session), make(map[store.Key]store.Bucket)}
	}
	if err := fn(tx); err != nil || tx.readOnly {
		return err
	}
	if tx.failed == nil {
		s.contents = tx.contents // a store on a disk writes here, and waits until it is written
	}
	return tx.failed
}

func (s *pageStore) DeleteExpired(ctx context.Context, now time.Time, limit int) (deleted int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	due := func(expiresAt int64) bool {
		if deleted == limit || expiresAt > now.UnixMilli() {
			return false
		}
		deleted++
		return true
	}
	maps.DeleteFunc(s.sessions, func(_ store.Key, v store.Session) bool { return due(v.ExpiresAt) })
	maps.DeleteFunc(s.buckets, func(_ store.Key, v store.Bucket) bool { return due(v.ExpiresAt) })
	return deleted, nil
}

type pageTx struct {
	contents

	readOnly bool
	known    map[store.Key]bool // what this unit has read or put
	failed   error              // a unit that disregards this must not be kept
}

func (t *pageTx) SessionByKey(key store.Key) (store.Session, error) {
	s, ok := t.sessions[key]
	if !ok {
		return store.Session{}, store.ErrNotFound
	}
	t.known[key] = true
	s.Nonce = slices.Clone(s.Nonce)
	return s, nil
}

func (t *pageTx) SessionBySID(sid string) (store.Session, error) {
	for key := range t.sessions { // a real store has an index
		if t.sessions[key].SID == sid {
			return t.SessionByKey(key)
		}
	}
	return store.Session{}, store.ErrNotFound
}

func (t *pageTx) PutSession(s store.Session) error {
	_, there := t.sessions[s.Key]
	fits := !t.readOnly && (!there || t.known[s.Key])
	if other, err := t.SessionBySID(s.SID); !fits || err == nil && other.Key != s.Key {
		t.failed = errors.New("read-only, or the session is not new, or its sid is taken")
		return t.failed
	}
	s.Nonce = slices.Clone(s.Nonce)
	t.sessions[s.Key], t.known[s.Key] = s, true
	return nil
}

func (t *pageTx) Buckets(keys []store.Key) ([]store.Bucket, error) {
	list := make([]store.Bucket, len(keys))
	for i, key := range keys {
		list[i] = t.buckets[key]
		list[i].Key, t.known[key] = key, true
	}
	return list, nil
}

func (t *pageTx) PutBuckets(list []store.Bucket) error {
	for _, b := range list {
		if t.readOnly || !t.known[b.Key] {
			t.failed = errors.New("read-only, or the bucket was not read")
			return t.failed
		}
		t.buckets[b.Key] = b
	}
	return nil
}
