package memstore

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/threepid/store"
)

var _ store.History = (*Store)(nil)

// history implements the part of [store.History] that needs no sessions.
type history struct {
	mu      sync.Mutex
	totals  map[totalKey]store.Total
	entries map[string]store.Entry
}

type totalKey struct {
	name, node string
	at         int64
}

// PutTotals implements [store.History].
func (h *history) PutTotals(ctx context.Context, totals []store.Total) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.totals == nil {
		h.totals = make(map[totalKey]store.Total)
	}
	for _, t := range totals {
		h.totals[totalKey{t.Name, t.Node, t.At}] = t
	}
	return ctx.Err()
}

// Totals implements [store.History].
func (h *history) Totals(ctx context.Context, from, to int64) ([]store.Total, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sums := make(map[totalKey]store.Total)
	for key, t := range h.totals {
		if key.at < from || key.at >= to {
			continue
		}
		key.node = ""
		sum := sums[key]
		sums[key] = store.Total{
			At: key.at, Name: key.name, Count: sum.Count + t.Count, Millis: sum.Millis + t.Millis, Units: sum.Units + t.Units,
		}
	}
	return slices.Collect(maps.Values(sums)), ctx.Err()
}

// AddEntries implements [store.History].
func (h *history) AddEntries(ctx context.Context, entries []store.Entry) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.entries == nil {
		h.entries = make(map[string]store.Entry)
	}
	for _, e := range entries {
		if _, there := h.entries[e.ID]; !there {
			h.entries[e.ID] = e
		}
	}
	return ctx.Err()
}

// Entries implements [store.History].
func (h *history) Entries(ctx context.Context, subject store.Key, since int64, limit int) ([]store.Entry, error) {
	return h.latest(limit, func(e *store.Entry) bool { return e.Subject == subject && e.At >= since }), ctx.Err()
}

// EntriesByRef implements [store.History].
func (h *history) EntriesByRef(ctx context.Context, ref store.Key, limit int) ([]store.Entry, error) {
	return h.latest(limit, func(e *store.Entry) bool { return e.Ref == ref }), ctx.Err()
}

func (h *history) latest(limit int, match func(*store.Entry) bool) []store.Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []store.Entry
	for _, e := range h.entries {
		if match(&e) {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b store.Entry) int {
		return cmp.Or(cmp.Compare(b.At, a.At), strings.Compare(b.ID, a.ID))
	})
	return list[:min(limit, len(list))]
}

// DeleteEntries implements [store.History].
func (h *history) DeleteEntries(ctx context.Context, subject store.Key) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.entries, func(_ string, e store.Entry) bool { return e.Subject == subject })
	return ctx.Err()
}

// DeleteExpiredHistory implements [store.History].
func (h *history) DeleteExpiredHistory(ctx context.Context, now time.Time, limit int) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	deleted := 0
	due := func(expiresAt int64) bool {
		if deleted == limit || expiresAt > now.UnixMilli() {
			return false
		}
		deleted++
		return true
	}
	maps.DeleteFunc(h.totals, func(_ totalKey, t store.Total) bool { return due(t.ExpiresAt) })
	maps.DeleteFunc(h.entries, func(_ string, e store.Entry) bool { return due(e.ExpiresAt) })
	return deleted, ctx.Err()
}

// SessionsOf implements [store.History].
func (s *Store) SessionsOf(ctx context.Context, msisdn string, limit int) ([]store.Session, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var sessions []store.Session
	for key := range s.sessions {
		if session := s.sessions[key]; session.MSISDN == msisdn && len(sessions) < limit {
			session.Nonce = slices.Clone(session.Nonce)
			sessions = append(sessions, session)
		}
	}
	return sessions, ctx.Err()
}
