package store

import (
	"context"
	"time"
)

// History is what a [Store] may implement in addition, so that an operator can see what
// happened, also before the process started and on other nodes. With a store that does not, a
// plugin keeps no statistics and no journal. Nothing on the path of a request waits for the
// methods that write: each node calls them about every two seconds.
type History interface {
	// PutTotals stores totals, each in place of the one with the same At, Name and Node. Only
	// the node itself writes its totals, so that no node waits for another. It is idempotent:
	// after a failure, some of the totals may be stored, and the next call repeats them. No
	// total is contained twice.
	PutTotals(ctx context.Context, totals []Total) error

	// Totals returns, for each Name and each At that is at or after from and before to, the
	// sum over all nodes. Node and ExpiresAt of what it returns are empty. The order does not
	// matter. It does not read totals of other times, of which there may be millions.
	Totals(ctx context.Context, from, to int64) ([]Total, error)

	// AddEntries adds entries to the journal. One whose ID is there already is left as it is,
	// so it is idempotent. No ID is contained twice.
	AddEntries(ctx context.Context, entries []Entry) error

	// Entries returns the entries about a subject whose At is at or after since: the latest
	// first, those of the same At by ID, the highest first, and at most limit of them.
	Entries(ctx context.Context, subject Key, since int64, limit int) ([]Entry, error)

	// EntriesByRef returns the entries with a Ref, in the order of Entries, at most limit.
	EntriesByRef(ctx context.Context, ref Key, limit int) ([]Entry, error)

	// DeleteEntries deletes the entries about a subject. None is no error.
	DeleteEntries(ctx context.Context, subject Key) error

	// DeleteExpiredHistory deletes at most limit totals and entries in total whose ExpiresAt
	// is at or before now, and returns how many it deleted.
	DeleteExpiredHistory(ctx context.Context, now time.Time, limit int) (int, error)

	// SessionsOf returns the sessions of a number, at most limit. It may read all sessions:
	// it is called for requests about personal data.
	SessionsOf(ctx context.Context, msisdn string, limit int) ([]Session, error)
}

// Total is how often something happened on one node in one part of time. Times are Unix
// milliseconds.
type Total struct {
	At        int64  // when the part of time begins
	Name      string // at most 160 bytes of printable ASCII
	Node      string // at most 32 bytes of ASCII
	Count     int64
	Millis    int64 // the sum of durations
	Units     int64 // the sum of something else, such as segments of SMS
	ExpiresAt int64
}

// Entry is an entry of the journal. Times are Unix milliseconds.
type Entry struct {
	ID        string // unique; at most 64 bytes of printable ASCII; greater than those of earlier entries of its node
	Subject   Key
	Ref       Key // the zero value: none
	At        int64
	Text      string // UTF-8 without NUL, at most 4,000 bytes; opaque to the store
	ExpiresAt int64
}
