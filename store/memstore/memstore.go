// Package memstore keeps sessions, records and associations in memory, for tests and
// demonstrations. They are lost when the process ends, and no other process sees them.
package memstore

import (
	"cmp"
	"context"
	"errors"
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
// A unit of work runs under the store's lock: it must not call the Store.
type Store struct {
	counters
	history

	mu           sync.RWMutex
	sessions     map[store.Key]store.Session
	keys         map[string]store.Key // by sid
	records      map[store.Key]store.Record
	associations map[string]store.Association
}

// New returns an empty Store.
func New() *Store {
	return &Store{
		sessions:     make(map[store.Key]store.Session),
		keys:         make(map[string]store.Key),
		records:      make(map[store.Key]store.Record),
		associations: make(map[string]store.Association),
	}
}

// View implements [store.Store].
func (s *Store) View(ctx context.Context, names store.Names) (store.Rows, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := ctx.Err(); err != nil {
		return store.Rows{}, err
	}
	return s.load(names).Clone(), nil
}

// Update implements [store.Store].
func (s *Store) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Follow(names, func(names store.Names) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		before := s.load(names)
		after, changed, err := store.Apply(names, before, change)
		if err != nil || !changed {
			return err
		}
		return s.keep(before, after)
	})
}

func (s *Store) load(names store.Names) store.Rows {
	key := names.Session.Key
	if names.Session.SID != "" {
		key = s.keys[names.Session.SID] // no session has the zero key
	}
	rows := store.Rows{Session: s.sessions[key], Records: make([]store.Record, len(names.Records))}
	for i, key := range names.Records {
		rows.Records[i] = s.records[key]
		rows.Records[i].Key = key
	}
	return rows
}

func (s *Store) keep(before, after store.Rows) error {
	if sid := after.Session.SID; sid != "" {
		if key, taken := s.keys[sid]; taken && key != after.Session.Key {
			return errors.New("memstore: another session has that sid")
		}
		delete(s.keys, before.Session.SID)
		s.keys[sid] = after.Session.Key
		s.sessions[after.Session.Key] = after.Session
	}
	for _, r := range after.Records {
		if r == (store.Record{Key: r.Key}) {
			delete(s.records, r.Key)
		} else {
			s.records[r.Key] = r
		}
	}
	return nil
}

// DeleteExpired implements [store.Store].
func (s *Store) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	deleted := 0
	due := func(expiresAt int64) bool { return deleted < limit && expiresAt <= now.UnixMilli() }
	for key := range s.sessions {
		if session := s.sessions[key]; due(session.ExpiresAt) {
			delete(s.sessions, key)
			delete(s.keys, session.SID)
			deleted++
		}
	}
	for key, record := range s.records {
		if due(record.ExpiresAt) {
			delete(s.records, key)
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
