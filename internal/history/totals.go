package history

import (
	"context"
	"fmt"
	"strings"
	"time"

	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// span is how long the parts of time are that totals are about.
const span = time.Hour

// totalKey is a total of this node.
type totalKey struct {
	at   int64
	name string
}

type total struct {
	count, millis, units int64

	unsaved bool
}

// statisticOf returns how an event counts in the statistics. Its Hour is when it happened.
func statisticOf(e observe.Event) (s observe.Statistic, counts bool) {
	switch e := e.(type) {
	case observe.SMS:
		s = observe.Statistic{
			Hour: e.At, Event: "sms", Result: string(e.Outcome), Country: e.Country, Purpose: e.Purpose, Provider: e.Provider, Duration: e.Latency,
		}
		if e.Outcome == observe.Accepted || e.Outcome == observe.Unknown {
			s.Segments = int64(e.Segments)
		}
	case observe.Validation:
		s = observe.Statistic{
			Hour: e.At, Event: "validation", Result: timeToValidate(e.TimeToValidate), Country: e.Country, Purpose: e.Purpose,
			Provider: e.Provider, Duration: e.TimeToValidate,
		}
	case observe.Refusal:
		s = observe.Statistic{Hour: e.At, Event: "refusal", Result: e.Reason, Country: e.Country, Purpose: e.Purpose}
	case observe.Code:
		s = observe.Statistic{Hour: e.At, Event: "code", Result: "wrong", Country: e.Country, Purpose: e.Purpose}
		if e.Right {
			s.Result = "right"
		}
	case observe.Receipt:
		s = observe.Statistic{Hour: e.At, Event: "receipt", Result: e.Status, Country: e.Country, Provider: e.Provider}
	default:
		return s, false
	}
	s.Count = 1
	return s, true
}

// timeToValidate returns the bound that a time to validate is counted under.
func timeToValidate(d time.Duration) string {
	bounds := observe.TimesToValidate()
	for _, bound := range bounds {
		if limit, err := time.ParseDuration(bound); err == nil && d <= limit {
			return bound
		}
	}
	return bounds[len(bounds)-1]
}

// separator is in none of the parts of a name.
const separator = "|"

// nameOf returns the name of a statistic's total. A client chooses none of its parts.
func nameOf(s *observe.Statistic) string {
	return strings.Join([]string{s.Event, s.Country, s.Purpose, s.Provider, s.Result}, separator)
}

// count adds a statistic to the totals of its hour.
func (r *Recorder) count(s observe.Statistic) {
	if s.Provider != "" {
		s.Provider = r.providers.Bound("provider", s.Provider)
	}
	key := totalKey{s.Hour.Truncate(span).UnixMilli(), nameOf(&s)}
	t := r.totals[key]
	if t == nil && len(r.totals) >= maxNames {
		s.Country, s.Purpose = "", ""
		key.name = nameOf(&s)
		t = r.totals[key]
	}
	if t == nil {
		t = &total{}
		r.totals[key] = t
	}
	t.count += s.Count
	t.millis += s.Duration.Milliseconds()
	t.units += s.Segments
	t.unsaved = true
}

// changed returns the totals that are not stored, and forgets those that are, except of this hour
// and the hour before: if the clock was set back, they would begin at zero and replace what is stored.
func (r *Recorder) changed() []store.Total {
	var totals []store.Total
	hour := r.Now().Truncate(span).UnixMilli()
	for key, t := range r.totals {
		switch {
		case t.unsaved:
			t.unsaved = false
			totals = append(totals, store.Total{
				At: key.at, Name: key.name, Node: r.Node, Count: t.count, Millis: t.millis, Units: t.units,
				ExpiresAt: key.at + r.Statistics.Milliseconds(),
			})
		case key.at < hour-span.Milliseconds():
			delete(r.totals, key)
		}
	}
	return totals
}

// written keeps totals that could not be stored.
func (r *Recorder) written(totals []store.Total, failed bool) {
	if !failed {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sum := range totals {
		if t := r.totals[totalKey{sum.At, sum.Name}]; t != nil {
			t.unsaved = true
		}
	}
}

// Read returns the statistics of the hours that begin at or after from and before to. The
// error wraps store.ErrUnsupported if none are kept.
func (r *Recorder) Read(ctx context.Context, from, to time.Time) ([]observe.Statistic, error) {
	if r == nil || r.Statistics <= 0 {
		return nil, fmt.Errorf("threepid: no statistics are kept: %w", store.ErrUnsupported)
	}
	if err := r.Flush(ctx); err != nil {
		return nil, err
	}
	totals, err := r.Store.Totals(ctx, from.UnixMilli(), to.UnixMilli())
	if err != nil {
		return nil, fmt.Errorf("threepid: read statistics: %w", err)
	}
	statistics := make([]observe.Statistic, 0, len(totals))
	for _, t := range totals {
		parts := strings.Split(t.Name, separator)
		if len(parts) != len([]string{"event", "country", "purpose", "provider", "result"}) {
			continue // of another release
		}
		statistics = append(statistics, observe.Statistic{
			Hour: time.UnixMilli(t.At).UTC(), Event: parts[0], Country: parts[1], Purpose: parts[2], Provider: parts[3], Result: parts[4],
			Count: t.Count, Segments: t.Units, Duration: time.Duration(t.Millis) * time.Millisecond,
		})
	}
	return statistics, nil
}
