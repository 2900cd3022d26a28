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
		s, reason := g.judged(s, e.scope, t.now)
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
	switch e.scope {
	case scopeBlock:
		c.Block = t.subject.block()
	case scopeNetwork:
		c.Country, c.Network = "", t.subject.prefix
	case scopeNumber, scopeNumberClient, scopeClient, scopeBlockClient, scopeCountry, scopeAll:
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
// country and the client's network, for which that is negative. fn tells whether it
// has changed something.
//
// What a network that was closed goes on to ask for is its own affair: it closes
// no country, nor shuts one to newcomers from elsewhere.
func (t *tally) eachGuard(fn func(e *entry, suffix int64) (changed bool)) {
	network := t.find(scopeNetwork)
	closedBefore := network != nil && t.service.Guard.current(network.state.Guard, t.now).Strikes > 0
	for _, of := range []scope{scopeBlock, scopeCountry, scopeNetwork} {
		if of == scopeCountry && closedBefore {
			continue
		}
		if e := t.find(of); e != nil && t.subject.guarded {
			suffix := int64(-1)
			if of == scopeBlock {
				suffix = t.subject.suffix()
			}
			e.changed = fn(e, suffix) || e.changed
		}
	}
}

// Closing tells the operator that the guard has closed a block of numbers, a country
// or a network, or would have if it did not only observe.
type Closing struct {
	Country  string // empty when a network is closed
	Block    string // E.164 without the plus sign, less the last four digits; empty when all of the country is closed
	Network  string // of the clients that are refused; empty when numbers are closed
	Reason   string
	Times    int // how often by now
	Until    time.Time
	Observed bool // nothing was closed: the guard only observes
}

// words say for the log what was closed, and what opens it.
func (c Closing) words() string {
	what, remedy := "a country", "Guard.Allow keeps one open"
	switch {
	case c.Network != "":
		what, remedy = "a network of clients", "it opens by itself"
	case c.Block != "":
		what, remedy = "a block of numbers", "Plugin.Unblock opens it"
	}
	if c.Observed {
		return "threepid: the guard would close " + what + " to texts, but only observes"
	}
	return "threepid: the guard has closed " + what + " to texts; " + remedy
}

// tell reports what a unit of work has closed, once it is kept.
func (s *Service) tell(t *tally) {
	for _, c := range t.closed {
		s.Logger.Warn(c.words(), "country", c.Country, "block", c.Block, "network", c.Network,
			"reason", c.Reason, "times", c.Times, "until", c.Until, "observed", c.Observed)
		if s.OnClosing != nil {
			s.OnClosing(c)
		}
	}
}
