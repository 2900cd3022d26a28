package memstore

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/threepid/store"
)

var _ store.Counters = (*Store)(nil)

// counters implements [store.Counters].
type counters struct {
	mu       sync.Mutex
	counts   map[countKey]store.Count
	verdicts map[string]store.Verdict
}

type countKey struct {
	subject, node string
	at            int64
}

// PutCounts implements [store.Counters].
func (c *counters) PutCounts(ctx context.Context, counts []store.Count) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = make(map[countKey]store.Count)
	}
	for _, count := range counts {
		c.counts[countKey{count.Subject, count.Node, count.At}] = count
	}
	return ctx.Err()
}

// SumCounts implements [store.Counters].
func (c *counters) SumCounts(ctx context.Context, subjects []string, since int64, except string) ([]store.Count, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sums := make(map[countKey]store.Count)
	for key, count := range c.counts {
		if key.node == except || key.at < since || !slices.Contains(subjects, key.subject) {
			continue
		}
		key.node = ""
		sum := sums[key]
		sums[key] = store.Count{Subject: key.subject, At: key.at, Sent: sum.Sent + count.Sent, Validated: sum.Validated + count.Validated}
	}
	return slices.Collect(maps.Values(sums)), ctx.Err()
}

// PutVerdicts implements [store.Counters].
func (c *counters) PutVerdicts(ctx context.Context, verdicts []store.Verdict) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.verdicts == nil {
		c.verdicts = make(map[string]store.Verdict)
	}
	for _, v := range verdicts {
		if v.Version > c.verdicts[v.Subject].Version {
			c.verdicts[v.Subject] = v
		}
	}
	return ctx.Err()
}

// Verdicts implements [store.Counters].
func (c *counters) Verdicts(ctx context.Context, since int64) ([]store.Verdict, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var verdicts []store.Verdict
	for _, v := range c.verdicts {
		if v.Version >= since {
			verdicts = append(verdicts, v)
		}
	}
	return verdicts, ctx.Err()
}

// DeleteExpiredCounts implements [store.Counters].
func (c *counters) DeleteExpiredCounts(ctx context.Context, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.counts, func(_ countKey, count store.Count) bool { return count.ExpiresAt <= now.UnixMilli() })
	maps.DeleteFunc(c.verdicts, func(_ string, v store.Verdict) bool { return v.ExpiresAt <= now.UnixMilli() })
	return ctx.Err()
}
