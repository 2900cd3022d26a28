package limit

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// What operators see in records, and what they change.

// levelOf returns how much of a limit is used.
func levelOf(scope string, l limits.Limit, level, now int64) limits.Level {
	level = within(l, level, now)
	every := l.Every.Milliseconds()
	free := now + int64(l.Burst)*every - level
	at := limits.Level{Scope: scope, Limit: l, Left: int(free / every)}
	if at.Left == 0 {
		at.Next = time.UnixMilli(now + every - free).UTC()
	}
	if level > now {
		at.Full = time.UnixMilli(level).UTC()
	}
	return at
}

func levelsOf(scope string, list []limits.Limit, levels []int64, now int64) []limits.Level {
	all := make([]limits.Level, 0, len(list))
	for i, l := range list {
		all = append(all, levelOf(scope, l, levelAt(levels, i), now))
	}
	return all
}

// Levels returns how much of the limits that all clients share is used. Scopes are the names of the
// fields of limits.Limits.
func (g *Ledger) Levels() []limits.Level {
	lim := &g.Limits
	var all []limits.Level
	if e := g.find(Number); e != nil {
		all = slices.Concat(
			levelsOf("PerNumber", lim.PerNumber, e.SMS, g.now),
			levelsOf("Reserve", lim.Reserve, e.Reserve, g.now),
			levelsOf("FailedSends", lim.FailedSends, e.Failed, g.now),
			levelsOf("WrongCodesPerNumber", lim.WrongCodesPerNumber, e.Codes, g.now),
			levelsOf("ReserveCodes", lim.ReserveCodes, e.ReserveCodes, g.now),
		)
		if most := lim.MaxWrongCodes; most > 0 {
			all = append(all, g.wrongCodes(e, most))
		}
	}
	if e := g.find(Range); e != nil {
		all = append(all, levelsOf("PerRange", lim.PerRange, e.SMS, g.now)...)
	}
	return all
}

func (g *Ledger) wrongCodes(e *entry, most int) limits.Level {
	locked := g.lockedFor(e) // also resets a count that has expired
	l := limits.Level{Scope: "MaxWrongCodes", Limit: limits.Limit{Burst: most, Every: wrongMemory}, Left: max(0, most-e.WrongCount)}
	if e.WrongCount > 0 {
		l.Full = time.UnixMilli(e.WrongAt).Add(wrongMemory).UTC()
	}
	if locked > 0 {
		l.Next = l.Full
	}
	return l
}

// Levels returns how much of the budgets for an SMS to the subject's number is used. SMS that nodes
// have leased count as used. records are those of Keys.
func (b *Budgets) Levels(who Subject, records []store.Record) []limits.Level {
	var all []limits.Level
	for i, s := range b.sharesOf(who) {
		scope := "PerCountry"
		if s.kind == Global {
			scope = "Global"
		}
		var kept budget
		now := b.now()
		if records[i].ExpiresAt <= now || json.Unmarshal([]byte(records[i].State), &kept) != nil {
			kept = budget{}
		}
		all = append(all, levelsOf(scope, s.limits, kept.Levels, now)...)
	}
	return all
}

// These bound the undelivered SMS that the guard does not count. A network that profits from
// pumping could report every SMS as undelivered and still charge for it. Beyond these limits, the
// guard ignores receipts. Where SMS really do not arrive, a block costs nobody anything.
func undeliveredInRange() []limits.Limit {
	return []limits.Limit{{Burst: 20, Every: 3 * time.Minute}}
}

func undeliveredInCountry() []limits.Limit {
	return []limits.Limit{{Burst: 100, Every: 36 * time.Second}}
}

// Undelivered stops counting the number for the guard, because its SMS was not delivered.
func (g *Ledger) Undelivered() {
	number, r := g.find(Number), g.find(Range)
	if number == nil || r == nil || !g.who.Guarded || number.Confirmed || !g.countedLately(number) {
		return
	}
	next, wait := takeAll(undeliveredInRange(), r.Undelivered, g.now)
	if wait > 0 {
		return
	}
	r.Undelivered, r.changed = next, true
	g.uncount(number.Counted)
	g.events[len(g.events)-1].undelivered = true
}

// AllBlocks returns the blocks of countries and networks.
func (w *Watch) AllBlocks() []limits.Block {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	var blocks []limits.Block
	for _, s := range w.subjects {
		s.state = w.current(s.state, now)
		if s.area != areaHost && s.blockedFor(now) > 0 {
			blocks = append(blocks, w.block(s, s.reason))
		}
	}
	slices.SortFunc(blocks, func(a, b limits.Block) int { return strings.Compare(a.Country+a.Network, b.Country+b.Network) })
	return blocks
}

// Lift ends the block of a country or network and resets its counts. It reports whether there was a
// block. Other nodes learn of it at their next Flush.
func (w *Watch) Lift(b limits.Block) bool {
	key := "country " + b.Country
	if b.Network != "" {
		key = "network " + digest("network", b.Network)[:networkDigits]
	}
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.subjects[key]
	if s == nil || s.blockedFor(now) == 0 {
		return false
	}
	// It counts as blocked until now, because that ends the counts of all nodes.
	s.state, s.others = state{Blocked: now, Until: now}, nil
	s.version, s.unsaved = max(now, s.version+1), true
	return true
}
