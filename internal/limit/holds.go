package limit

import (
	"cmp"
	"slices"
	"time"

	"example.com/threepid/limits"
)

// held is a block, and the kind of record that contains it.
type held struct {
	kind  Kind
	block limits.Block
}

// Holds returns what prevents SMS to the ledger's number, or its codes from being accepted, for all
// clients.
func (g *Ledger) Holds() []limits.Block {
	all := append(g.limitHolds(), g.guardHolds()...)
	order := []Kind{Number, Client, Range, Country}
	slices.SortStableFunc(all, func(a, b held) int {
		return cmp.Compare(slices.Index(order, a.kind), slices.Index(order, b.kind))
	})
	blocks := make([]limits.Block, 0, len(all))
	for _, h := range all {
		blocks = append(blocks, h.block)
	}
	return blocks
}

func (g *Ledger) limitHolds() []held {
	var all []held
	for _, m := range g.smsMeters(false) {
		_, wait := takeAll(m.limits, m.levels, g.now)
		all = g.hold(all, "limit on SMS", m.entry.kind, wait)
	}
	for _, m := range g.codeMeters() {
		_, wait := takeAll(m.limits, m.levels, g.now)
		all = g.hold(all, "limit on wrong codes", m.entry.kind, max(wait, g.lockedFor(m.entry)))
	}
	return all
}

func (g *Ledger) guardHolds() []held {
	var all []held
	forAll := g.guardBlocks(true)
	for _, b := range g.guardBlocks(false) {
		reason, of := "guard: few of the numbers that codes were sent to were validated", Country
		switch {
		case b.DryRun:
			continue
		case b.Range != "":
			of = Range
		case !slices.Contains(forAll, b):
			reason += "; a client that asks for a first number is still served"
		}
		all = g.hold(all, reason, of, b.Until.UnixMilli()-g.now)
	}
	return all
}

// hold appends a block of a kind of record, if it has not ended.
func (g *Ledger) hold(all []held, reason string, of Kind, wait int64) []held {
	if wait == 0 {
		return all
	}
	b := limits.Block{Reason: reason, Until: time.UnixMilli(g.now + wait).UTC()}
	switch of {
	case Range:
		b.Range = g.who.Range()
	case Country:
		b.Country = g.who.Country
	case Number, Client, Global:
	}
	return append(all, held{of, b})
}
