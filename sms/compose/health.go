package compose

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"example.com/threepid/observe"
)

const (
	// healthWindow is the time whose SMS and receipts are judged. SMS of the last minutes are not:
	// reading one and typing takes time.
	healthWindow  = 30 * time.Minute
	healthSettles = 3 * time.Minute

	// passedOverFor is how long a provider is passed over in a country.
	passedOverFor = 15 * time.Minute

	// minFailures is how many receipts must say that SMS were not delivered. They must also be at
	// least half of the receipts and of the SMS that were sent: many networks send no other receipts,
	// and some numbers are always wrong.
	minFailures = 10

	// minHealthSMS is how many SMS of the window are enough to judge confirmations, and minUsualSMS
	// how many of the day before make what is usual. The share is too low at less than a
	// quarter of the usual one. With more than maxVolume times as many SMS as usual, it is not
	// the provider's fault: that is what pumping looks like.
	minHealthSMS = 20
	minUsualSMS  = 100
	lowShare     = 4
	maxVolume    = 2

	usualHours = 24

	// maxHealths bounds the memory. Countries are 250, and providers few.
	maxHealths = 2000
)

// HealthOptions configure a Health. The zero value works.
type HealthOptions struct {
	// Now returns the time. Defaults to time.Now.
	Now func() time.Time

	// Logger receives a record when a provider is passed over, and when it no longer is.
	// Defaults to slog.Default().
	Logger *slog.Logger
}

// Health notices that a provider accepts SMS to a country and does not deliver them: most of its
// receipts say so, or far fewer SMS than usual are confirmed although no more are sent. Then a
// Failover tries it last there for 15 minutes. After that it is judged by new SMS only.
//
// A Health is an observe.Observer: pass it to Options.Observer of the plugin, with observe.All if
// there is another one, and to FailoverOptions.Health. It knows what this node has sent, and which
// receipts it received, since the process started. What is usual it knows after a few hours.
type Health struct {
	now    func() time.Time
	logger *slog.Logger

	mu     sync.Mutex
	places map[place]*health
}

var _ observe.Observer = (*Health)(nil)

// place is a provider in a country.
type place struct{ provider, country string }

// health is what is known of a place.
type health struct {
	minutes []healthCount // of the window, oldest first
	hours   []healthCount // of the day, oldest first
	since   time.Time     // what was sent before is not judged
	until   time.Time     // it is passed over until then
	passed  bool          // which was logged
}

// healthCount is what was sent in a minute or an hour, and what became of it.
type healthCount struct {
	at                int64 // which minute or hour since 1970
	sent, confirmed   int
	delivered, failed int // receipts that were received then
}

// NewHealth returns a Health that knows nothing yet.
func NewHealth(o HealthOptions) *Health {
	if o.Now == nil {
		o.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Health{now: o.Now, logger: o.Logger, places: make(map[place]*health)}
}

// Observe implements observe.Observer.
func (h *Health) Observe(_ context.Context, e observe.Event) {
	switch e := e.(type) {
	case observe.SMS:
		if e.Outcome == observe.Accepted {
			h.record(place{e.Provider, e.Country}, e.At, healthCount{sent: 1})
		}
	case observe.Validation:
		h.record(place{e.Provider, e.Country}, e.At.Add(-e.TimeToValidate), healthCount{confirmed: 1})
	case observe.Receipt:
		switch e.Status {
		case "delivered":
			h.record(place{e.Provider, e.Country}, e.At, healthCount{delivered: 1})
		case "failed":
			h.record(place{e.Provider, e.Country}, e.At, healthCount{failed: 1})
		}
	}
}

// record adds to the counts of a time, and judges.
func (h *Health) record(p place, at time.Time, more healthCount) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.places[p]
	if of == nil {
		if len(h.places) == maxHealths {
			return
		}
		of = &health{}
		h.places[p] = of
	}
	now := h.now()
	of.minutes = add(of.minutes, at.Unix()/60, now.Add(-healthWindow).Unix()/60, more)
	of.hours = add(of.hours, at.Unix()/3600, now.Unix()/3600-usualHours, more)
	h.resume(p, of, now)
	if !now.Before(of.until) && of.collapsed(now) {
		of.until, of.since, of.passed = now.Add(passedOverFor), now.Add(passedOverFor), true
		h.logger.Warn("threepid: an SMS provider is passed over in a country: its SMS are not delivered, or not confirmed as usual",
			"provider", p.provider, "country", p.country, "for", passedOverFor)
	}
}

// resume notes that a place is no longer passed over.
func (h *Health) resume(p place, of *health, now time.Time) {
	if of.passed && !now.Before(of.until) {
		of.passed = false
		h.logger.Info("threepid: an SMS provider that was passed over in a country is tried again", "provider", p.provider, "country", p.country)
	}
}

// add adds to the count of a time, and forgets those before first.
func add(counts []healthCount, at, first int64, more healthCount) []healthCount {
	counts = slices.DeleteFunc(counts, func(c healthCount) bool { return c.at < first })
	if at < first {
		return counts
	}
	i, found := slices.BinarySearchFunc(counts, at, func(c healthCount, at int64) int { return int(c.at - at) })
	if !found {
		counts = slices.Insert(counts, i, healthCount{at: at})
	}
	c := &counts[i]
	c.sent += more.sent
	c.confirmed += more.confirmed
	c.delivered += more.delivered
	c.failed += more.failed
	return counts
}

// collapsed reports whether SMS are not delivered any more.
func (of *health) collapsed(now time.Time) bool {
	var recent, usual healthCount
	hours := 0
	settled := now.Add(-healthSettles).Unix() / 60
	sent := 0 // in the whole window
	for _, c := range of.minutes {
		if c.at < of.since.Unix()/60 {
			continue
		}
		sent += c.sent
		recent.delivered += c.delivered
		recent.failed += c.failed
		if c.at < settled {
			recent.sent += c.sent
			recent.confirmed += c.confirmed
		}
	}
	for _, c := range of.hours {
		if c.at < now.Unix()/3600-1 {
			usual.sent += c.sent
			usual.confirmed += c.confirmed
			hours++
		}
	}
	if recent.failed >= minFailures && recent.failed >= recent.delivered && 2*recent.failed >= sent {
		return true
	}
	if recent.sent < minHealthSMS || usual.sent < minUsualSMS {
		return false
	}
	perHour := usual.sent / hours
	volume := recent.sent * int(time.Hour/healthWindow)
	return recent.confirmed*usual.sent*lowShare < usual.confirmed*recent.sent && volume <= maxVolume*perHour
}

// passes reports whether a provider is passed over in a country.
func (h *Health) passes(provider, country string) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := place{provider, country}
	of := h.places[p]
	if of == nil {
		return false
	}
	now := h.now()
	h.resume(p, of, now)
	return now.Before(of.until)
}
