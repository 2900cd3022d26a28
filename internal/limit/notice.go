package limit

import (
	"time"

	"example.com/threepid/limits"
)

// How the guard learns of SMS. A range is judged here, in its record. The Watch judges countries
// and networks, once the unit of work is stored.

// guardShare is how many numbers of one client the guard counts. A single client must not be able
// to block anything for others.
func guardShare() []limits.Limit { return []limits.Limit{{Burst: 4, Every: 15 * time.Minute}} }

// Notice counts the number for the guard, unless it was counted recently or the client has used up
// its share, and reports whether it did. It judges in either case: the counts may look worse by now
// even if no new client has a share left.
func (g *Ledger) Notice() (counted bool) {
	if !g.who.Guarded {
		return false
	}
	counted = g.takeShare()
	g.events = append(g.events, event{who: g.who, sent: counted})
	r := g.find(Range)
	if r == nil {
		return counted
	}
	rules := g.rules()
	s := rules.current(r.Guard, g.now)
	if g.Guard.DryRun && s.blockedFor(g.now) > 0 {
		return counted
	}
	if counted {
		s = rules.sent(s, g.who.askerKey(), g.who.suffix(), g.now)
	}
	s, reason := rules.judged(s, situation{area: areaRange, percent: g.Guard.MinValidatedPercent, excused: g.Watch.outage(g.now)}, g.now)
	if counted || reason != "" {
		r.Guard, r.changed = s, true
	}
	if reason != "" {
		g.blocks = append(g.blocks, limits.Block{
			Country: g.who.Country, Range: g.who.Range(), Reason: reason, Count: s.Count,
			Until: time.UnixMilli(s.Until).UTC(), DryRun: g.Guard.DryRun,
		})
	}
	return counted
}

// takeShare reports whether the number is to be counted, and charges it to the client's share.
func (g *Ledger) takeShare() bool {
	number, client := g.find(Number), g.find(Client)
	if number == nil || g.isCounted(number) {
		return false
	}
	if client != nil {
		share, wait := takeAll(guardShare(), client.Share, g.now)
		if wait > 0 {
			return false
		}
		client.Share, client.changed = share, true
	}
	number.Counted, number.Confirmed, number.changed = g.now, false, true
	return true
}

// isCounted reports whether the guard has counted the number. It counts a number once in its
// window, however many SMS the number receives, and again after a block.
func (g *Ledger) isCounted(number *entry) bool {
	if r := g.find(Range); r != nil && r.Guard.blockedSince(number.Counted, g.now) {
		return false
	}
	return g.countedLately(number) && !g.Watch.countryBlockedSince(g.who, number.Counted, g.now)
}

func (g *Ledger) countedLately(number *entry) bool {
	at := number.Counted
	return at > g.now-g.Guard.Window.Milliseconds() && at <= g.now+clockSlack.Milliseconds()
}

// uncount undoes the counting of Notice at a time, for an SMS that was not sent.
func (g *Ledger) uncount(at int64) {
	number := g.find(Number)
	if number == nil || number.Counted != at {
		return
	}
	number.Counted, number.changed = 0, true
	if client := g.find(Client); client != nil {
		// Otherwise the guard would not notice a client that first requests numbers that the
		// provider rejects.
		client.Share, client.changed = giveBackAll(guardShare(), client.Share, 1, true, g.now), true
	}
	g.events = append(g.events, event{who: g.who, notSentAt: at})
	if r := g.find(Range); r != nil {
		r.Guard, r.changed = g.rules().notSent(r.Guard, g.who.suffix(), at, g.now), true
	}
}

// countValidation counts the number as validated for the guard, once.
func (g *Ledger) countValidation() {
	number := g.find(Number)
	if number == nil || !g.who.Guarded || !g.countedLately(number) || number.Confirmed {
		return
	}
	number.Confirmed, number.changed = true, true
	g.events = append(g.events, event{who: g.who, validatedAt: number.Counted})
	if r := g.find(Range); r != nil {
		r.Guard, r.changed = g.rules().validated(r.Guard, g.who.suffix(), number.Counted, g.now), true
	}
}

// blocked returns for how long the guard refuses the request.
func (g *Ledger) blocked() Refusal {
	var met Refusal
	if !g.who.Guarded || g.Guard.DryRun {
		return met
	}
	met = g.Watch.blocked(g.who, g.mayAsk(), g.now)
	if r := g.find(Range); r != nil {
		s := g.rules().current(r.Guard, g.now)
		met.meet("guard: range", s.blockedFor(g.now))
	}
	return met
}

// Blocks returns the guard's blocks of the ledger's subject, even if Guard.DryRun is set. It omits
// a country that is open to the client.
func (g *Ledger) Blocks() []limits.Block { return g.guardBlocks(g.mayAsk()) }

func (g *Ledger) guardBlocks(mayAsk bool) []limits.Block {
	if !g.who.Guarded {
		return nil
	}
	var blocks []limits.Block
	if r := g.find(Range); r != nil {
		if s := g.rules().current(r.Guard, g.now); s.blockedFor(g.now) > 0 {
			blocks = append(blocks, limits.Block{
				Country: g.who.Country, Range: g.who.Range(), Count: s.Count, Until: time.UnixMilli(s.Until).UTC(), DryRun: g.Guard.DryRun,
			})
		}
	}
	return append(blocks, g.Watch.blocks(g.who, mayAsk, g.now)...)
}
