// Package limit contains the rules of the rate limits and of the guard. They are pure functions of
// records and counters, which the callers load and store.
package limit

import (
	"time"

	"example.com/threepid/limits"
)

// The state of a limit is a level: the theoretical arrival time of the next event, in Unix
// milliseconds. A level in the past means that nothing is used.

// clockSlack is how much the clocks of nodes may differ.
const clockSlack = time.Minute

// take returns the level after one more event. If the limit is reached, it returns the level
// unchanged, and how long to wait in milliseconds.
func take(l limits.Limit, level, now int64) (next, wait int64) {
	level = within(l, level, now)
	every := l.Every.Milliseconds()
	if next = level + every; next-now > int64(l.Burst)*every {
		return level, next - now - int64(l.Burst)*every
	}
	return next, 0
}

// giveBack returns the level after one event is taken back.
func giveBack(l limits.Limit, level, now int64) int64 {
	return within(l, level-l.Every.Milliseconds(), now)
}

// within returns the level if this limit can have caused it by now, on a node whose clock may be
// ahead. A higher level was left by a longer limit, or by a clock that has been set back since. It
// is ignored: a refused request writes nothing, so requests would be refused until that time.
func within(l limits.Limit, level, now int64) int64 {
	full := now + int64(l.Burst)*l.Every.Milliseconds()
	if level > full+clockSlack.Milliseconds() {
		return now
	}
	return min(max(level, now), full)
}

// takeAll takes one event from each limit. If one of them refuses, it takes none and returns how
// long to wait until all allow it, in milliseconds. A limit without Burst is left out: see
// withoutSlow.
func takeAll(list []limits.Limit, levels []int64, now int64) (next []int64, wait int64) {
	next = make([]int64, len(list))
	for i, l := range list {
		next[i] = levelAt(levels, i)
		if l.Burst == 0 {
			continue
		}
		var w int64
		next[i], w = take(l, next[i], now)
		wait = max(wait, w)
	}
	if wait > 0 {
		return levels, wait
	}
	return next, 0
}

// giveBackAll gives n events back to each limit that does not count validated numbers. An SMS that
// was not sent is given back to all limits.
func giveBackAll(list []limits.Limit, levels []int64, n int, notSent bool, now int64) []int64 {
	next := make([]int64, len(list))
	for i, l := range list {
		next[i] = levelAt(levels, i)
		if l.Burst == 0 {
			continue
		}
		next[i] = within(l, next[i], now)
		for range n {
			if !l.CountValidated || notSent {
				next[i] = giveBack(l, next[i], now)
			}
		}
	}
	return next
}

// withoutSlow leaves out the limits that the reserve passes. The others keep their indexes, and
// thus their levels.
func withoutSlow(list []limits.Limit) []limits.Limit {
	fast := make([]limits.Limit, len(list))
	for i, l := range list {
		if l.CountValidated || l.Every < reservePasses {
			fast[i] = l
		}
	}
	return fast
}

// levelAt returns the level of the ith limit. There may be more limits than when the levels were
// stored.
func levelAt(levels []int64, i int) int64 {
	if i < len(levels) {
		return levels[i]
	}
	return 0
}
