package store

import (
	"context"
	"time"
)

// Counters is what a [Store] may implement in addition, so that nodes share what the
// guard counts and decides about countries and networks. With a store that does not, each
// node judges by what it sees itself. Nothing on the path of a request waits for
// these methods: each node calls them about once a second.
type Counters interface {
	// PutCounts stores counts, each in place of the one with the same Subject, At and
	// Node. Only the node itself writes its counts, so that no node waits for
	// another. It is idempotent: after a failure, some of the counts may be
	// stored, and the next call repeats them. No count is contained twice.
	PutCounts(ctx context.Context, counts []Count) error

	// SumCounts returns, for each of the subjects and each At at or after since, the
	// sum over all nodes but one. Sums of nothing are left out. Node and ExpiresAt of
	// what it returns are empty. The order does not matter.
	SumCounts(ctx context.Context, subjects []string, since int64, except string) ([]Count, error)

	// PutVerdicts stores verdicts, each in place of the one with the same Subject
	// unless that has the same or a higher Version: of two nodes that write at once, the
	// higher version wins. No verdict is contained twice.
	PutVerdicts(ctx context.Context, verdicts []Verdict) error

	// Verdicts returns the verdicts whose Version is at or after since.
	Verdicts(ctx context.Context, since int64) ([]Verdict, error)

	// DeleteExpiredCounts deletes the counts and verdicts whose ExpiresAt is at or before
	// now. There are few: it deletes all of them at once.
	DeleteExpiredCounts(ctx context.Context, now time.Time) error
}

// Count is what one node has counted of one subject in one part of time. Times are
// Unix milliseconds.
type Count struct {
	Subject   string // at most 64 bytes of ASCII
	At        int64  // when the part of time begins
	Node      string // at most 32 bytes of ASCII
	Sent      int64
	Validated int64
	ExpiresAt int64
}

// Verdict is what a node has decided about a subject. State is opaque to the store.
type Verdict struct {
	Subject   string // at most 64 bytes of ASCII
	Version   int64  // Unix milliseconds of the decision
	State     string // UTF-8, at most 500 bytes
	ExpiresAt int64
}
