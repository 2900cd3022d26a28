// Package metric has what the collectors of a plugin's events share: it bounds their labels, and
// counts blocks by kind.
package metric

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/threepid/limits"
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

// readTimeout is how long Blocks wait for what is blocked.
const readTimeout = 2 * time.Second

// Blocks counts what is blocked. It is safe for concurrent use. The zero value is ready to use.
type Blocks struct {
	read atomic.Pointer[func(context.Context) ([]limits.Block, error)]
}

// Read sets the function that returns what is blocked.
func (b *Blocks) Read(read func(context.Context) ([]limits.Block, error)) { b.read.Store(&read) }

// Count returns how many ranges, countries and networks are blocked; nothing if there is no
// function, or if it fails.
func (b *Blocks) Count(ctx context.Context) map[string]int {
	read := b.read.Load()
	if read == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	blocks, err := (*read)(ctx)
	if err != nil {
		return nil
	}
	counts := map[string]int{"range": 0, "country": 0, "network": 0}
	for _, block := range blocks {
		switch {
		case block.DryRun:
		case block.Network != "":
			counts["network"]++
		case block.Range != "":
			counts["range"]++
		default:
			counts["country"]++
		}
	}
	return counts
}
