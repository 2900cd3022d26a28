package verify

import (
	"time"
)

// Limit lets Burst through at once and then one each Per, as the generic cell
// rate algorithm has it (ITU-T I.371, annex A): in any span of time, Burst and
// one for each Per that goes into the span.
type Limit struct {
	Burst int
	Per   time.Duration

	// Final says that what was let through stays counted although its number
	// validated.
	Final bool
}

// Limits are the limits of each scope; a scope without any is not limited.
type Limits struct {
	Number       []Limit // texts to one number
	NumberClient []Limit // by one client
	Client       []Limit // texts that one client asks for
	BlockClient  []Limit // to one block of numbers: all that differ in their last digits only
	Block        []Limit // texts to one block
	Country      []Limit // texts to one country
	All          []Limit // all texts

	// Reserve is what clients may take from a number beyond Number, one text each
	// in reserveMemory; ReserveCodes is how many codes of a number are compared
	// beyond Wrong and WrongMost, each the first for its token. Empty: none.
	Reserve, ReserveCodes []Limit

	// Texts that one client asked for and that did not leave; and further tries of
	// texts that may have left, by one client and to one number. They cost nothing
	// in the scopes above; but each is a call to the provider, which may text it
	// again.
	Failed []Limit

	// Look-ups of accounts that one client asks for; counted by each node for itself.
	LookUps []Limit

	// Wrong tokens: for one number, by one client for one number, and by one
	// client. WrongMost is how many a number bears without a right one in
	// between; 0 is any number.
	Wrong       []Limit
	WrongClient []Limit
	Submit      []Limit
	WrongMost   int
}

// A level is the state of a Limit: the theoretical arrival time of the next
// one, in Unix milliseconds. Before now, it is as if nothing had been taken.

// take is the level after one more was let through. When the limit is reached
// it is the level as it was, and how long to wait in milliseconds.
func (l Limit) take(level, now int64) (next, wait int64) {
	level = l.within(level, now)
	per := l.Per.Milliseconds()
	if next = level + per; next-now > int64(l.Burst)*per {
		return level, next - now - int64(l.Burst)*per
	}
	return next, 0
}

// giveBack is the level as if one less had been let through.
func (l Limit) giveBack(level, now int64) int64 {
	return l.within(level-l.Per.Milliseconds(), now)
}

// clockSlack is how far nodes' clocks may be apart.
const clockSlack = time.Minute

// within keeps a level where this limit can have brought it by now, on a node
// whose clock is ahead. Further beyond is one that a longer limit left behind, or a
// clock that was set back since: it counts for nothing, since who is refused writes
// nothing, and would be refused until the time comes round.
func (l Limit) within(level, now int64) int64 {
	full := now + int64(l.Burst)*l.Per.Milliseconds()
	if level > full+clockSlack.Milliseconds() {
		return now
	}
	return min(max(level, now), full)
}

// takeAll takes one from each limit, or from none: then it tells how long to
// wait until all would let it through, in milliseconds.
func takeAll(limits []Limit, levels []int64, now int64) (next []int64, wait int64) {
	next = make([]int64, len(limits))
	for i, l := range limits {
		next[i] = levelAt(levels, i)
		if l.Burst == 0 {
			continue // see withoutSlow
		}
		var w int64
		next[i], w = l.take(next[i], now)
		wait = max(wait, w)
	}
	if wait > 0 {
		return levels, wait
	}
	return next, 0
}

// giveBackAll gives n back to each limit that takes anything back. A text that
// did not leave comes back to all, also to the final ones.
func giveBackAll(limits []Limit, levels []int64, n int, alsoFinal bool, now int64) []int64 {
	next := make([]int64, len(limits))
	for i, l := range limits {
		next[i] = levelAt(levels, i)
		if l.Burst == 0 {
			continue
		}
		next[i] = l.within(next[i], now)
		for range n {
			if !l.Final || alsoFinal {
				next[i] = l.giveBack(next[i], now)
			}
		}
	}
	return next
}

// withoutSlow leaves out the limits that the reserve passes. Each of the others
// keeps its place, and thus its level.
func withoutSlow(limits []Limit) []Limit {
	fast := make([]Limit, len(limits))
	for i, l := range limits {
		if l.Final || l.Per < reservePasses {
			fast[i] = l
		}
	}
	return fast
}

// levelAt is the level of the ith limit; there may be more limits than when the
// levels were stored.
func levelAt(levels []int64, i int) int64 {
	if i < len(levels) {
		return levels[i]
	}
	return 0
}
