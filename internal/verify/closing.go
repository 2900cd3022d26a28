package verify

import "time"

// How the guards are told of texts, and the operator of what they close.

// notice has the guards count the number, unless they did lately or the client
// has had its share; it tells whether they did. They judge in either case: what is
// counted may look worse by now, though nobody comes who still has a share.
func (t *tally) notice() (counted bool) {
	counted = t.takeShare()
	g := t.service.Guard
	t.eachGuard(func(e *entry, suffix int64) bool {
		s := g.current(e.state.Guard, t.now)
		if g.Observe && s.closedFor(t.now) > 0 {
			return false
		}
		if counted {
			s = g.texted(s, suffix, t.now)
		}
		s, reason := g.judged(s, e.scope == scopeBlock, t.now)
		if counted || reason != "" {
			e.state.Guard = s
		}
		if reason != "" {
			t.closed = append(t.closed, t.closing(e, reason))
		}
		return counted || reason != ""
	})
	return counted
}

// takeShare tells whether the number is to be counted, and takes it from the
// client's share.
func (t *tally) takeShare() bool {
	number, client := t.find(scopeNumber), t.find(scopeClient)
	if !t.subject.guarded || number == nil || t.counted(number) {
		return false
	}
	if client != nil {
		share, wait := takeAll(guardShare(), client.state.Share, t.now)
		if wait > 0 {
			return false
		}
		client.state.Share, client.changed = share, true
	}
	number.state.Counted, number.state.Confirmed, number.changed = t.now, false, true
	return true
}

// closing is what the operator is told of a bucket that was closed.
func (t *tally) closing(e *entry, reason string) Closing {
	c := Closing{
		Country: t.subject.country, Reason: reason, Times: e.state.Guard.Strikes,
		Until: time.UnixMilli(e.state.Guard.Until).UTC(), Observed: t.service.Guard.Observe,
	}
	if e.scope == scopeBlock {
		c.Block = t.subject.block()
	}
	return c
}

// counted tells whether the guards know of the number: each counts a number once
// in its window, however often it is texted, and anew after a closing.
func (t *tally) counted(number *entry) bool {
	for _, of := range []scope{scopeBlock, scopeCountry} {
		if e := t.find(of); e != nil && e.state.Guard.closedSince(number.state.Counted, t.now) {
			return false
		}
	}
	return t.countedLately(number)
}

func (t *tally) countedLately(number *entry) bool {
	at := number.state.Counted
	return at > t.now-t.service.Guard.Window.Milliseconds() && at <= t.now
}

// eachGuard calls fn for the block, with the number's place in it, and for the
// country, for which that is negative. fn tells whether it has changed something.
func (t *tally) eachGuard(fn func(e *entry, suffix int64) (changed bool)) {
	for _, of := range []scope{scopeBlock, scopeCountry} {
		if e := t.find(of); e != nil && t.subject.guarded {
			suffix := int64(-1)
			if of == scopeBlock {
				suffix = t.subject.suffix()
			}
			e.changed = fn(e, suffix) || e.changed
		}
	}
}

// Closing tells the operator that the guard has closed a block of numbers or a
// country, or would have if it did not only observe.
type Closing struct {
	Country  string
	Block    string // E.164 without the plus sign, less the last four digits; empty when all of the country is closed
	Reason   string
	Times    int // how often by now
	Until    time.Time
	Observed bool // nothing was closed: the guard only observes
}

// tell reports what a unit of work has closed, once it is kept.
func (s *Service) tell(t *tally) {
	for _, c := range t.closed {
		s.Logger.Warn("threepid: the guard has closed numbers to texts", "country", c.Country, "block", c.Block,
			"reason", c.Reason, "times", c.Times, "until", c.Until, "observed", c.Observed)
		if s.OnClosing != nil {
			s.OnClosing(c)
		}
	}
}
