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

// TestStoreOfAPage is the recipe in docs/RECIPES.md for a store of your own.
func TestStoreOfAPage(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) store.Store {
		return &pageStore{sessions: make(map[store.Key]store.Session), records: make(map[store.Key]store.Record)}
	})
}

// pageStore runs units of work one after the other.
type pageStore struct {
	mu       sync.Mutex
	sessions map[store.Key]store.Session
	records  map[store.Key]store.Record
}

func (s *pageStore) View(ctx context.Context, names store.Names) (store.Rows, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load(names), ctx.Err()
}

func (s *pageStore) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Follow(names, func(names store.Names) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows, changed, err := store.Apply(names, s.load(names), change)
		if err != nil || !changed {
			return err
		}
		if other, taken := s.find(rows.Session.SID); taken && other.Key != rows.Session.Key {
			return errors.New("another session has that sid")
		}
		// A store on disk writes here, and waits until the data is durable.
		if rows.Session.SID != "" {
			s.sessions[rows.Session.Key] = rows.Session
		}
		for _, record := range rows.Records {
			s.records[record.Key] = record
		}
		return nil
	})
}

func (s *pageStore) load(names store.Names) store.Rows {
	rows := store.Rows{Session: s.sessions[names.Session.Key], Records: make([]store.Record, len(names.Records))}
	if names.Session.SID != "" {
		rows.Session, _ = s.find(names.Session.SID)
	}
	for i, key := range names.Records {
		rows.Records[i] = s.records[key]
		rows.Records[i].Key = key
	}
	return rows.Clone()
}

func (s *pageStore) find(sid string) (store.Session, bool) {
	sessions := slices.Collect(maps.Values(s.sessions)) // a real store has an index
	i := slices.IndexFunc(sessions, func(one store.Session) bool { return one.SID == sid })
	if i < 0 {
		return store.Session{}, false
	}
	return sessions[i], true
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
	maps.DeleteFunc(s.records, func(_ store.Key, v store.Record) bool { return due(v.ExpiresAt) })
	return deleted, nil
}
