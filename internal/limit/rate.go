// Package limit has the rules of the rate limits and of the guard. They are pure
// functions over records and counters: the flows around them load and store the
// records.
package limit

import (
	"time"

	"example.com/threepid/limits"
)

// The state of a limit is a level: the theoretical arrival time of the next one, in
// Unix milliseconds. A level before now is the same as none.

// clockSlack is how far the clocks of nodes may be apart.
const clockSlack = time.Minute

// take returns the level after one more. When the limit is reached it returns the level
// unchanged, and how long to wait in milliseconds.
func take(l limits.Limit, level, now int64) (next, wait int64) {
	level = within(l, level, now)
	every := l.Every.Milliseconds()
	if next = level + every; next-now > int64(l.Burst)*every {
		return level, next - now - int64(l.Burst)*every
	}
	return next, 0
}

// giveBack returns the level with one less.
func giveBack(l limits.Limit, level, now int64) int64 {
	return within(l, level-l.Every.Milliseconds(), now)
}

// within keeps a level where this limit can have brought it by now, on a node
// whose clock is ahead. A level further ahead was left by a longer limit, or by a clock
// that was set back since. It counts for nothing: a refused request writes nothing, so it
// would be refused until that time.
func within(l limits.Limit, level, now int64) int64 {
	full := now + int64(l.Burst)*l.Every.Milliseconds()
	if level > full+clockSlack.Milliseconds() {
		return now
	}
	return min(max(level, now), full)
}

// takeAll takes one from each limit, or from none: then it returns how long to wait until
// all allow it, in milliseconds. A limit without Burst is left out, see withoutSlow.
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

// giveBackAll gives n back to each limit that does not count what validated. An SMS that
// was not sent is given back to all of them.
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

// withoutSlow leaves out the limits that the reserve passes. Each of the others
// keeps its index, and thus its level.
func withoutSlow(list []limits.Limit) []limits.Limit {
	fast := make([]limits.Limit, len(list))
	for i, l := range list {
		if l.CountValidated || l.Every < reservePasses {
			fast[i] = l
		}
	}
	return fast
}

// levelAt returns the level of the ith limit; there may be more limits than when the
// levels were stored.
func levelAt(levels []int64, i int) int64 {
	if i < len(levels) {
		return levels[i]
	}
	return 0
}
