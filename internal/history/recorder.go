// Package history keeps what happened, for an operator: statistics by the hour, and a journal of
// the events of each number. It makes both of the events of package observe, in memory, and
// writes them to a store.History in the background, so that no request waits for it.
package history

import (
	"context"
	"fmt"
	"sync"
	"time"

	"example.com/threepid/internal/metric"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

const (
	// maxWaiting bounds the events that wait to be written, and the entries that could not
	// be. Beyond half of it no refusals are kept, of which a flood has many.
	maxWaiting = 10_000

	// maxRefusals is how many refusals of one second are kept.
	maxRefusals = 100

	// maxNames bounds the names of totals in memory.
	maxNames = 20_000
)

// Config configures a Recorder.
type Config struct {
	Store store.History
	Node  string // unique among nodes and restarts
	Now   func() time.Time

	// Statistics and Journal are how long each is kept; 0 keeps none.
	Statistics, Journal time.Duration
}

// Recorder keeps statistics and the journal of one node. Its methods are safe for concurrent use.
// A nil Recorder keeps nothing.
type Recorder struct {
	Config

	providers metric.Labels // bounds the names of providers

	flushing sync.Mutex // one Flush at a time

	mu       sync.Mutex
	totals   map[totalKey]*total
	waiting  []item        // that are in no entry yet
	unsaved  []store.Entry // that Flush could not store yet
	dropped  int           // events, since Dropped was called last
	sequence int           // of entries
	refusals refusals
}

// New returns a Recorder, or nil if nothing is to be kept.
func New(c Config) *Recorder {
	if c.Store == nil || c.Statistics <= 0 && c.Journal <= 0 {
		return nil
	}
	return &Recorder{Config: c, totals: make(map[totalKey]*total)}
}

// About is what an event is about, apart from what it says itself.
type About struct {
	Subject store.Key // see NumberKey; the zero value if the number is not known
	SID     string    // of the session of an SMS
}

// NumberKey returns the subject of a number's journal.
func NumberKey(msisdn string) store.Key { return store.RecordKey("journal", msisdn) }

// Record records an event.
func (r *Recorder) Record(e observe.Event, about About) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, counts := statisticOf(e); counts && r.Statistics > 0 {
		r.count(s)
	}
	subject := r.subjectOf(e, about)
	if subject == (store.Key{}) {
		return
	}
	if refusal, ok := e.(observe.Refusal); ok && (len(r.waiting) > maxWaiting/2 || !r.refusals.admit(refusal, subject)) {
		return
	}
	if len(r.waiting) >= maxWaiting {
		r.dropped++
		return
	}
	r.waiting = append(r.waiting, item{event: e, subject: subject, sid: about.SID})
}

type refused struct {
	subject store.Key
	reason  string
}

// refusals admits refusals to the journal: those of a flood say nothing new.
type refusals struct {
	minute, second int64
	seen           map[refused]bool // in this minute
	inSecond       int
}

// admit reports whether the number was not refused for the same reason in this minute, and whether
// there is room in this second.
func (r *refusals) admit(e observe.Refusal, subject store.Key) bool {
	if minute := e.At.Unix() / 60; minute != r.minute || r.seen == nil {
		r.minute, r.seen = minute, make(map[refused]bool)
	}
	if second := e.At.Unix(); second != r.second {
		r.second, r.inSecond = second, 0
	}
	key := refused{subject, e.Reason}
	if r.seen[key] || r.inSecond == maxRefusals {
		return false
	}
	r.seen[key] = true
	r.inSecond++
	return true
}

// Flush writes what has happened since the last one. What it cannot write it keeps for the next.
func (r *Recorder) Flush(ctx context.Context) error {
	if r == nil {
		return nil
	}
	r.flushing.Lock()
	defer r.flushing.Unlock()
	totals, entries := r.outgoing()
	return r.write(ctx, totals, entries)
}

// Dropped returns how many events are missing in the journal, because too many waited for the
// database, since the last call.
func (r *Recorder) Dropped() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, r.dropped = r.dropped, 0
	return n
}

// write writes totals and entries. After a failure it tries nothing more: where there is one writer,
// requests wait for it.
func (r *Recorder) write(ctx context.Context, totals []store.Total, entries []store.Entry) error {
	err := r.Store.PutTotals(ctx, totals)
	r.written(totals, err != nil)
	if err != nil {
		return fmt.Errorf("threepid: store statistics: %w", err)
	}
	if err := r.Store.AddEntries(ctx, entries); err != nil {
		return fmt.Errorf("threepid: store the journal: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unsaved = r.unsaved[len(entries):]
	return nil
}

// outgoing is what a Flush writes.
func (r *Recorder) outgoing() (totals []store.Total, entries []store.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	totals = r.changed()
	room := maxWaiting - len(r.unsaved)
	if room < len(r.waiting) {
		r.dropped += len(r.waiting) - room
		r.waiting = r.waiting[:room]
	}
	r.unsaved = append(r.unsaved, r.entriesOf(r.waiting)...)
	r.waiting = nil
	return totals, r.unsaved[:len(r.unsaved):len(r.unsaved)]
}

// DeleteExpired deletes at most limit totals and entries that have expired, and returns how many
// it deleted.
func (r *Recorder) DeleteExpired(ctx context.Context, limit int) (int, error) {
	if r == nil {
		return 0, nil
	}
	return r.Store.DeleteExpiredHistory(ctx, r.Now(), limit)
}
