package limit

import (
	"cmp"
	"slices"
	"time"

	"example.com/threepid/limits"
)

// rules are the guard's. They are functions of a state and the time; times are Unix
// milliseconds.
type rules struct{ limits.Guard }

const (
	// slotsPerWindow is how many parts the window has: what is counted leaves it part
	// by part.
	slotsPerWindow = 30

	// settleSlots is how many of the latest slots are not held against numbers
	// that have not validated yet: reading an SMS and typing takes time.
	settleSlots = 1

	// rushFactor is how many times MinNumbers are too many in that time, with
	// next to no validation among them; networkRushFactor for a network.
	rushFactor        = 25
	networkRushFactor = 12

	// A run is runLength numbers of a range, asked for within runWindow and not
	// confirmed, each at most runGap after the next. No host's customers do that.
	runLength = 8
	runGap    = 3
	runKept   = 16
	runWindow = 10 * time.Minute

	// memoryAfterBlock is how long after a block it is remembered, beyond MaxBlock.
	// During that time fewer numbers are enough to block again, for longer; and a range's
	// or a network's are held against it at once, since it is so small that honest
	// people seldom come together in it.
	memoryAfterBlock = 12 * time.Hour
	minNumbersAgain  = 3
	minClientsAgain  = 3
	maxCount         = 16
)

// Reasons for a block.
const (
	reasonRatio = "few validations"
	reasonRush  = "many SMS at once, few validations"
	reasonRun   = "neighbouring numbers"

	// alsoNew is appended when the clients that a blocked country is still open to
	// do not validate either.
	alsoNew = ", also of clients that ask for a first number"
)

// state is what the guard remembers of a range, a country or a network.
type state struct {
	Slots   counts     `json:"n,omitempty"` // oldest first
	Run     []runEntry `json:"r,omitempty"` // ranges only: the latest numbers, oldest first
	By      []byEntry  `json:"b,omitempty"` // the latest clients that asked
	Blocked int64      `json:"c,omitempty"` // when it was blocked last; what was counted before no longer is
	Until   int64      `json:"u,omitempty"` // blocked until then
	Count   int        `json:"k,omitempty"` // how often it was blocked

	// Countries only.
	WhileBlocked  counts `json:"w,omitempty"` // of clients that it is still open to
	BlockedForAll bool   `json:"x,omitempty"` // blocked for them as well
}

// slot counts the numbers that received an SMS in one part of the window, and those
// that validated in it.
type slot [3]int64 // which part since 1970; SMS; validated

// counts are in the order of time.
type counts []slot

// runEntry is a number of a range: its last digits, and when it was asked for.
type runEntry [2]int64

// byEntry is a client and the slot in which it asked last.
type byEntry struct {
	Client string `json:"c"`
	Slot   int64  `json:"s"`
}

// blockedFor returns how many milliseconds it will stay blocked.
func (s state) blockedFor(now int64) int64 { return max(0, s.Until-now) }

// current returns s without what has left the window, and without a block that a
// clock set back has put far into the future. The clock of another node may be ahead.
func (g rules) current(s state, now int64) state {
	last := now + clockSlack.Milliseconds()
	first := g.slot(now) - slotsPerWindow + 1
	outside := func(at int64) bool { return at < first || at > g.slot(last) }
	s.Slots = slices.DeleteFunc(slices.Clone(s.Slots), func(c slot) bool { return outside(c[0]) })
	s.WhileBlocked = slices.DeleteFunc(slices.Clone(s.WhileBlocked), func(c slot) bool { return outside(c[0]) })
	s.By = slices.DeleteFunc(slices.Clone(s.By), func(b byEntry) bool { return outside(b.Slot) })
	s.Run = slices.DeleteFunc(slices.Clone(s.Run), func(n runEntry) bool {
		return n[1] <= now-runWindow.Milliseconds() || n[1] > last
	})
	if longest := now + g.MaxBlock.Milliseconds(); s.Until > longest+clockSlack.Milliseconds() {
		s.Blocked, s.Until, s.Count = 0, 0, 0 // see within
	} else {
		s.Until = min(s.Until, longest)
	}
	if s.blockedFor(now) == 0 {
		// It does not count from then on: those who came in during the block and validated
		// would cover for those who wait for its end.
		s.WhileBlocked, s.BlockedForAll = nil, false
	}
	if s.Until != 0 && now >= g.forgottenAt(&s) {
		s.Blocked, s.Until, s.Count = 0, 0, 0
	}
	return s
}

func (g rules) forgottenAt(s *state) int64 {
	return s.Until + (g.MaxBlock + memoryAfterBlock).Milliseconds()
}

func (g rules) slotSpan() int64 { return g.Window.Milliseconds() / slotsPerWindow }

func (g rules) slot(now int64) int64 { return now / g.slotSpan() }

// sent returns s after an SMS to another number. suffix is the last digits of the
// number, or negative for a country or network.
func (g rules) sent(s state, by string, suffix, now int64) state {
	s = g.current(s, now)
	s.counting(now).add(g.slot(now), 1, 0)
	s.By = slices.DeleteFunc(s.By, func(b byEntry) bool { return b.Client == by })
	s.By = append(s.By, byEntry{by, g.slot(now)})
	s.By = s.By[max(0, len(s.By)-minClientsAgain):]
	if suffix >= 0 {
		s.Run = append(slices.DeleteFunc(s.Run, func(n runEntry) bool { return n[0] == suffix }), runEntry{suffix, now})
		s.Run = s.Run[max(0, len(s.Run)-runKept):]
	}
	return s
}

// area is what kind of subject a state is of.
type area int

const (
	areaRange area = iota
	areaCountry
	areaNetwork
	areaHost // judged never, but the measure of what is usual
)

// situation is what a judgement depends on apart from the subject's own state.
type situation struct {
	area    area
	others  counts // what other nodes counted in the same phase
	percent int    // how many of a hundred must have validated
	excused bool   // few validations are the provider's fault
}

// judged returns s after a judgement, and the reason if it is blocked from now on. A
// blocked country is judged too: the clients that it is still open to may be those of
// an attacker who has any number of them, such as a network of IPv6 addresses. Then it
// is blocked for all for the rest of the time.
func (g rules) judged(s state, c situation, now int64) (next state, reason string) {
	s = g.current(s, now)
	blocked := s.blockedFor(now) > 0
	if blocked && (c.area != areaCountry || s.BlockedForAll || g.DryRun) {
		return s, ""
	}
	if reason = g.judge(&s, c, now); reason == "" {
		return s, ""
	}
	if blocked {
		s.BlockedForAll = true
		return s, reason + alsoNew
	}
	s.Blocked, s.Slots, s.Run, s.By = now, nil, nil, nil
	s.Until = now + g.lasts(s.Count).Milliseconds()
	s.Count++
	return s, reason
}

// lasts returns how long it blocks what was blocked so often before.
func (g rules) lasts(count int) time.Duration {
	count = min(count, maxCount)
	if g.InitialBlock > g.MaxBlock>>count { // asked so that nothing overflows
		return g.MaxBlock
	}
	return g.InitialBlock << count
}

// judge returns why a subject is to be blocked.
func (g rules) judge(s *state, c situation, now int64) string {
	again := s.Count > 0
	latest, rush := g.slot(now)-settleSlots, int64(rushFactor)
	if again && c.area != areaCountry {
		latest = g.slot(now+clockSlack.Milliseconds()) + 1
	}
	if c.area == areaNetwork {
		rush = networkRushFactor
	}
	var settled, all, validated int64
	for _, list := range []counts{*s.counting(now), c.others} {
		for _, part := range list {
			all += part[1]
			validated += part[2]
			if part[0] < latest {
				settled += part[1]
			}
		}
	}
	least := int64(max(g.MinNumbers>>min(s.Count, maxCount), min(minNumbersAgain, g.MinNumbers)))
	few := func(of int64) bool { return !c.excused && validated*100 < int64(c.percent)*of }
	enough := !again || len(s.By) >= minClientsAgain
	switch {
	case enough && settled >= least && few(settled):
		return reasonRatio
	case enough && all >= least*rush && few(all):
		return reasonRush
	case longestRun(s.Run) >= runLength:
		return reasonRun
	}
	return ""
}

// longestRun returns how many numbers are neighbours, with gaps of at most runGap.
func longestRun(numbers []runEntry) int {
	suffixes := make([]int64, len(numbers))
	for i, n := range numbers {
		suffixes[i] = n[0]
	}
	slices.Sort(suffixes)
	longest, length := 0, 0
	for i := range suffixes {
		if i == 0 || suffixes[i]-suffixes[i-1] > runGap {
			length = 0
		}
		length++
		longest = max(longest, length)
	}
	return longest
}

// validated returns s after a number has validated that was counted at a time.
func (g rules) validated(s state, suffix, at, now int64) state {
	s = g.current(s, now)
	if s.countedIn(at, now) {
		s.counting(now).add(g.slot(now), 0, 1)
	}
	s.Run = slices.DeleteFunc(s.Run, func(n runEntry) bool { return n[0] == suffix })
	return s
}

// notSent returns s after it turned out that the SMS to a number that was counted at a time was not
// sent. suffix is as for sent. Another node may have counted the number for its country or network:
// then this node's count becomes negative, so that the sum of all nodes is right.
func (g rules) notSent(s state, suffix, at, now int64) state {
	s = g.current(s, now)
	if list := s.counting(now); s.countedIn(at, now) && (suffix < 0 || list.sentIn(g.slot(at)) > 0) {
		list.add(g.slot(at), -1, 0)
	}
	s.Run = slices.DeleteFunc(s.Run, func(n runEntry) bool { return n[0] == suffix })
	return s
}

// counting returns where numbers are counted now.
func (s *state) counting(now int64) *counts {
	if s.blockedFor(now) > 0 {
		return &s.WhileBlocked
	}
	return &s.Slots
}

// countedIn reports whether a number of that time was counted where numbers are
// counted now.
func (s *state) countedIn(at, now int64) bool {
	return !s.blockedSince(at, now) && (at < s.Until) == (s.blockedFor(now) > 0)
}

// blockedSince reports whether what was counted at a time no longer is.
func (s *state) blockedSince(at, now int64) bool { return at <= s.Blocked && s.Blocked <= now }

// add adds to a slot, usually the present one.
func (c *counts) add(at, sent, validated int64) {
	i, found := c.find(at)
	if !found {
		*c = slices.Insert(*c, i, slot{at})
	}
	(*c)[i][1] += sent
	(*c)[i][2] += validated
}

// sentIn returns how many SMS a slot counts.
func (c *counts) sentIn(at int64) int64 {
	if i, found := c.find(at); found {
		return (*c)[i][1]
	}
	return 0
}

// find returns where a slot is, or where it belongs.
func (c *counts) find(at int64) (i int, found bool) {
	return slices.BinarySearchFunc(*c, at, func(s slot, at int64) int { return cmp.Compare(s[0], at) })
}

// expires returns when nothing is left to remember.
func (s *state) expires(g rules) int64 {
	at := int64(0)
	if n := len(s.Slots); n > 0 {
		at = (s.Slots[n-1][0] + slotsPerWindow) * g.slotSpan()
	}
	if s.Until != 0 {
		at = max(at, g.forgottenAt(s))
	}
	return at
}
