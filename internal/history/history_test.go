package history_test

import (
	"fmt"
	"testing"
	"time"

	"example.com/threepid/internal/history"
	"example.com/threepid/observe"
	"example.com/threepid/store/memstore"
)

// clock is a clock that tests set.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newRecorder(t *testing.T, st *memstore.Store) (*history.Recorder, *clock) {
	t.Helper()
	c := &clock{now: time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)}
	return history.New(history.Config{Store: st, Node: "node", Now: c.Now, Statistics: 30 * 24 * time.Hour, Journal: time.Hour}), c
}

func (c *clock) meta() observe.Meta { return observe.Meta{At: c.now} }

// TestClockSetBackAcrossTheHour sets the clock back to the hour before, in which SMS were counted
// and stored: the SMS that follow are added to them.
func TestClockSetBackAcrossTheHour(t *testing.T) {
	t.Parallel()
	r, c := newRecorder(t, memstore.New())
	count := func(n int) {
		for range n {
			r.Record(observe.SMS{Meta: c.meta(), Outcome: observe.Accepted, Country: "GB"}, history.About{})
		}
		for range 2 { // the second one forgets what is stored
			if err := r.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := c.now
	count(50)
	c.now = before.Add(time.Hour)
	count(1)
	c.now = before
	count(1)
	statistics, err := r.Read(t.Context(), before.Truncate(time.Hour), before)
	if err != nil || len(statistics) != 1 || statistics[0].Count != 51 {
		t.Errorf("got %+v, error %v; want 51 SMS", statistics, err)
	}
}

// TestLongestBlockKeepsItsEntry records a long block after a short one, so that they share an entry:
// it is kept as long as the long one is in force.
func TestLongestBlockKeepsItsEntry(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	r, c := newRecorder(t, st)
	for i, lasts := range []time.Duration{2 * time.Hour, 12 * time.Hour, 2 * time.Hour} {
		r.Record(observe.Block{Meta: c.meta(), Kind: "range", Subject: fmt.Sprint(i), Until: c.now.Add(lasts)}, history.About{})
	}
	begin := c.now
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.now = begin.Add(11 * time.Hour)
	if _, err := r.DeleteExpired(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	if blocks, err := r.Ranges(t.Context(), begin.Add(-time.Hour), 10); err != nil || len(blocks) != 3 {
		t.Errorf("after 11 hours: %+v, error %v", blocks, err)
	}
	c.now = begin.Add(13 * time.Hour)
	if n, err := r.DeleteExpired(t.Context(), 100); err != nil || n != 1 {
		t.Errorf("after 13 hours %d entries were deleted, error %v", n, err)
	}
}

// TestDroppedEventsFailNoRead records more events than may wait for the store. The others are
// stored, and the next read succeeds.
func TestDroppedEventsFailNoRead(t *testing.T) {
	t.Parallel()
	const many, fit = 10_100, 10_000
	r, c := newRecorder(t, memstore.New())
	for range many {
		r.Record(observe.SMS{Meta: c.meta(), Outcome: observe.Accepted}, history.About{Subject: history.NumberKey("447700900123")})
	}
	events, _, err := r.Timeline(t.Context(), "447700900123", many)
	if err != nil || len(events) != fit {
		t.Errorf("%d events, error %v", len(events), err)
	}
	if n := r.Dropped(); n != many-fit {
		t.Errorf("%d events were dropped, want %d", n, many-fit)
	}
	if n := r.Dropped(); n != 0 {
		t.Errorf("%d events were dropped since then", n)
	}
}
