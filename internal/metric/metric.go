// Package metric has what the collectors of a plugin's events share: it bounds their labels, and
// knows what is blocked now.
package metric

import (
	"strings"
	"sync"
	"time"

	"example.com/threepid/observe"
)

const (
	// maxValues is how many values of a label are kept, such as providers, whose names
	// a host chooses. Others count as Other.
	maxValues = 50

	// Other is the value of a label that has too many.
	Other = "other"
)

// Labels bounds the values of labels. The zero value is ready to use. It is safe for concurrent
// use.
type Labels struct {
	mu   sync.Mutex
	kept map[string]map[string]bool // by label
}

// Bound returns the value of a label, or Other if the label has fifty values without it.
func (l *Labels) Bound(label, value string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		l.kept = map[string]map[string]bool{}
	}
	kept := l.kept[label]
	if kept == nil {
		kept = map[string]bool{}
		l.kept[label] = kept
	}
	if !kept[value] {
		if len(kept) >= maxValues {
			return Other
		}
		kept[value] = true
	}
	return value
}

// Country returns a country as a label: two letters, "001", or Other.
func Country(country string) string {
	if country == "001" || len(country) == 2 && strings.Trim(country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return country
	}
	return Other
}

// Result returns the label of a code that was compared.
func Result(right bool) string {
	if right {
		return "right"
	}
	return "wrong"
}

// Blocks are what the guard of this node has blocked. It is safe for concurrent use.
type Blocks struct {
	mu    sync.Mutex
	until map[string]map[string]time.Time // by kind and subject
}

// NewBlocks returns Blocks without any.
func NewBlocks() *Blocks {
	return &Blocks{until: map[string]map[string]time.Time{"range": {}, "country": {}, "network": {}}}
}

// Add adds a block. Those that have ended by now are removed, so that their number is bounded
// if nobody counts them.
func (b *Blocks) Add(e observe.Block, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prune(now)
	if subjects, ok := b.until[e.Kind]; ok && !e.DryRun {
		subjects[e.Subject] = e.Until
	}
}

// Remove removes a block. With a number, the block of its range ends.
func (b *Blocks) Remove(e observe.Unblock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kind := e.Kind
	if kind == "number" {
		kind = "range"
	}
	delete(b.until[kind], e.Subject)
}

// Count returns how many blocks of each kind have not ended.
func (b *Blocks) Count(now time.Time) map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prune(now)
	counts := map[string]int{}
	for kind, subjects := range b.until {
		counts[kind] = len(subjects)
	}
	return counts
}

func (b *Blocks) prune(now time.Time) {
	for _, subjects := range b.until {
		for subject, until := range subjects {
			if !now.Before(until) {
				delete(subjects, subject)
			}
		}
	}
}
