// Package memstore keeps sessions, buckets and associations in memory: for tests
// and for demonstrations. Everything is gone when the process ends, and no other
// process sees it.
package memstore

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/threepid/store"
)

var (
	_ store.Store    = (*Store)(nil)
	_ store.Accounts = (*Store)(nil)
)

// Store is both a [store.Store] and a [store.Accounts]. Make one with [New].
//
// A unit of work runs under the store's lock: fn must not call the Store.
type Store struct {
	counters

	mu           sync.RWMutex
	sessions     map[store.Key]store.Session
	keys         map[string]store.Key // by sid
	buckets      map[store.Key]store.Bucket
	associations map[string]store.Association
}

// New returns an empty Store.
func New() *Store {
	return &Store{
		sessions:     make(map[store.Key]store.Session),
		keys:         make(map[string]store.Key),
		buckets:      make(map[store.Key]store.Bucket),
		associations: make(map[string]store.Association),
	}
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, fn func(store.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return fn(&tx{base: s, readOnly: true})
}

// Update implements [store.Store]. It runs fn once.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	t := &tx{
		base: s, known: make(map[store.Key]bool), staged: make(map[store.Key]store.Session),
		stagedBuckets: make(map[store.Key]store.Bucket),
	}
	if err := fn(t); err != nil {
		return err
	}
	if t.failed != nil {
		return t.failed
	}
	s.apply(t.staged)
	maps.Copy(s.buckets, t.stagedBuckets)
	return nil
}

// apply takes all old sids out before it puts any new one in, since a unit may
// hand a sid on from one session to another.
func (s *Store) apply(staged map[store.Key]store.Session) {
	for key := range staged {
		if old, ok := s.sessions[key]; ok {
			delete(s.keys, old.SID)
		}
	}
	for key := range staged {
		s.sessions[key] = staged[key]
		s.keys[staged[key].SID] = key
	}
}

// DeleteExpired implements [store.Store].
func (s *Store) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	deleted := 0
	for sid, key := range s.keys {
		if deleted >= limit {
			break
		}
		if s.sessions[key].ExpiresAt <= now.UnixMilli() {
			delete(s.sessions, key)
			delete(s.keys, sid)
			deleted++
		}
	}
	for key, b := range s.buckets {
		if deleted >= limit {
			break
		}
		if b.ExpiresAt <= now.UnixMilli() {
			delete(s.buckets, key)
			deleted++
		}
	}
	return deleted, nil
}

// Owner implements [store.Accounts].
func (s *Store) Owner(ctx context.Context, msisdn string) (string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	a, ok := s.associations[msisdn]
	if !ok {
		return "", store.ErrNotFound
	}
	return a.UserID, nil
}

// Associate implements [store.Accounts].
func (s *Store) Associate(ctx context.Context, a store.Association) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if old, ok := s.associations[a.MSISDN]; ok {
		if old.UserID != a.UserID {
			return store.ErrInUse
		}
		return nil
	}
	s.associations[a.MSISDN] = a
	return nil
}

// Dissociate implements [store.Accounts].
func (s *Store) Dissociate(ctx context.Context, userID, msisdn string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if a, ok := s.associations[msisdn]; !ok || a.UserID != userID {
		return store.ErrNotFound
	}
	delete(s.associations, msisdn)
	return nil
}

// List implements [store.Accounts].
func (s *Store) List(ctx context.Context, userID string) ([]store.Association, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var list []store.Association
	for _, a := range s.associations {
		if a.UserID == userID {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b store.Association) int {
		return cmp.Or(cmp.Compare(a.AddedAt, b.AddedAt), cmp.Compare(a.MSISDN, b.MSISDN))
	})
	return list, nil
}

var (
	errReadOnly = errors.New("memstore: put: the unit is read-only")
	errKeyTaken = errors.New("memstore: put session: there is one with that key, and this unit has not read it")
	errSIDTaken = errors.New("memstore: put session: another session has that sid")
	errUnread   = errors.New("memstore: put buckets: this unit has not read one of them")
)

// tx stages what a unit puts, so that an error or a panic leaves nothing to undo.
type tx struct {
	base     *Store
	readOnly bool
	known    map[store.Key]bool // of sessions and buckets that this unit has read or put; nil in a View
	staged   map[store.Key]store.Session

	stagedBuckets map[store.Key]store.Bucket

	// failed is the first put that failed. A unit whose fn disregards it must
	// not keep the rest: all or nothing.
	failed error
}

// SessionByKey implements [store.Tx].
func (t *tx) SessionByKey(key store.Key) (store.Session, error) {
	session, ok := t.lookup(key)
	if !ok {
		return store.Session{}, store.ErrNotFound
	}
	return t.handOut(session), nil
}

// SessionBySID implements [store.Tx].
func (t *tx) SessionBySID(sid string) (store.Session, error) {
	session, ok := t.lookupSID(sid)
	if !ok {
		return store.Session{}, store.ErrNotFound
	}
	return t.handOut(session), nil
}

// PutSession implements [store.Tx].
func (t *tx) PutSession(s store.Session) error {
	if t.readOnly {
		return errReadOnly
	}
	if _, exists := t.lookup(s.Key); exists && !t.known[s.Key] {
		return t.fail(errKeyTaken)
	}
	if other, exists := t.lookupSID(s.SID); exists && other.Key != s.Key {
		return t.fail(errSIDTaken)
	}
	t.known[s.Key] = true
	t.staged[s.Key] = clone(s)
	return nil
}

// Buckets implements [store.Tx].
func (t *tx) Buckets(keys []store.Key) ([]store.Bucket, error) {
	found := make([]store.Bucket, len(keys))
	for i, key := range keys {
		b, staged := t.stagedBuckets[key]
		if !staged {
			b = t.base.buckets[key]
		}
		b.Key = key
		found[i] = b
		if t.known != nil {
			t.known[key] = true
		}
	}
	return found, nil
}

// PutBuckets implements [store.Tx].
func (t *tx) PutBuckets(buckets []store.Bucket) error {
	if t.readOnly {
		return errReadOnly
	}
	for _, b := range buckets {
		if !t.known[b.Key] {
			return t.fail(errUnread)
		}
		t.stagedBuckets[b.Key] = b
	}
	return nil
}

func (t *tx) fail(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

func (t *tx) handOut(s store.Session) store.Session {
	if t.known != nil {
		t.known[s.Key] = true
	}
	return clone(s)
}

func (t *tx) lookup(key store.Key) (store.Session, bool) {
	if s, ok := t.staged[key]; ok {
		return s, true
	}
	s, ok := t.base.sessions[key]
	return s, ok
}

func (t *tx) lookupSID(sid string) (store.Session, bool) {
	for key := range t.staged {
		if t.staged[key].SID == sid {
			return t.staged[key], true
		}
	}
	key, ok := t.base.keys[sid]
	if !ok {
		return store.Session{}, false
	}
	if _, replaced := t.staged[key]; replaced {
		return store.Session{}, false // that session has another sid now
	}
	return t.base.sessions[key], true
}

// clone copies the one field that a plain copy would share.
func clone(s store.Session) store.Session {
	s.Nonce = slices.Clone(s.Nonce)
	return s
}
