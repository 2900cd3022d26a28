// Package metric bounds the labels of the collectors of a plugin's events.
package metric

import (
	"strings"
	"sync"
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
