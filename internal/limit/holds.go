package limit

import (
	"cmp"
	"slices"
	"time"

	"example.com/threepid/limits"
)

// Holds returns what keeps SMS from being sent to the ledger's number, or its codes
// from being accepted, whichever client asks.
func (g *Ledger) Holds() []limits.Block {
	var all []held
	hold := func(reason string, of Kind, wait int64) {
		if wait == 0 {
			return
		}
		b := limits.Block{Reason: reason, Until: time.UnixMilli(g.now + wait).UTC()}
		switch of {
		case Range:
			b.Range = g.who.Range()
		case Country:
			b.Country = g.who.Country
		case Global:
			b.Reason += " to all numbers"
		case Number, Client:
		}
		all = append(all, held{of, b})
	}
	for _, m := range g.smsMeters(false) {
		_, wait := takeAll(m.limits, m.levels, g.now)
		hold("limit on SMS", m.entry.kind, wait)
	}
	for _, m := range g.codeMeters() {
		_, wait := takeAll(m.limits, m.levels, g.now)
		hold("limit on wrong codes", m.entry.kind, max(wait, g.lockedFor(m.entry)))
	}
	const few = "guard: few of the numbers that codes were sent to were validated"
	for _, b := range g.guardBlocks(false) {
		if b.DryRun {
			continue
		}
		reason, of := few, Country
		if b.Range != "" {
			of = Range
		} else if open := g.guardBlocks(true); len(open) == 0 || open[len(open)-1].Country == "" || open[len(open)-1].Range != "" {
			reason += "; a client that asks for a first number is still served"
		}
		hold(reason, of, b.Until.UnixMilli()-g.now)
	}
	slices.SortStableFunc(all, func(a, b held) int {
		return cmp.Compare(slices.Index(SMSKinds(), a.kind), slices.Index(SMSKinds(), b.kind))
	})
	blocks := make([]limits.Block, 0, len(all))
	for _, h := range all {
		blocks = append(blocks, h.block)
	}
	return blocks
}

// held is a block, and the kind of record that it is from.
type held struct {
	kind  Kind
	block limits.Block
}
