package store

import (
	"context"
	"time"
)

// Counters is an optional interface of a [Store], through which nodes share the guard's counts and
// decisions about countries and networks. Without it, each node judges only by its own traffic. No
// request waits for these methods: each node calls them about once a second.
type Counters interface {
	// PutCounts stores counts. Each replaces the count with the same Subject, At and Node. A node
	// writes only its own counts, so that no node waits for another. PutCounts is idempotent: after
	// a failure, some of the counts may be stored, and the next call repeats them. No count is
	// contained twice.
	PutCounts(ctx context.Context, counts []Count) error

	// SumCounts returns, for each subject and each At that is at or after since, the sum of the
	// counts of all nodes but one. It omits subjects and times without counts. Node and ExpiresAt
	// of the results are empty. The order does not matter.
	SumCounts(ctx context.Context, subjects []string, since int64, except string) ([]Count, error)

	// PutVerdicts stores verdicts. Each replaces the verdict with the same Subject, unless that has
	// the same or a higher Version: if two nodes write at once, the higher version wins. No verdict
	// is contained twice.
	PutVerdicts(ctx context.Context, verdicts []Verdict) error

	// Verdicts returns the verdicts whose Version is at or after since.
	Verdicts(ctx context.Context, since int64) ([]Verdict, error)

	// DeleteExpiredCounts deletes all counts and verdicts whose ExpiresAt is at or before now.
	// There are few of them.
	DeleteExpiredCounts(ctx context.Context, now time.Time) error
}

// Count is how many SMS and validations one node has counted for one subject in one part of time.
// Times are Unix milliseconds.
type Count struct {
	Subject   string // at most 64 bytes of ASCII
	At        int64  // when the part of time begins
	Node      string // at most 32 bytes of ASCII
	Sent      int64
	Validated int64
	ExpiresAt int64
}

// Verdict is a node's decision about a subject. State is opaque to the store.
type Verdict struct {
	Subject   string // at most 64 bytes of ASCII
	Version   int64  // Unix milliseconds of the decision
	State     string // UTF-8, at most 500 bytes
	ExpiresAt int64
}
