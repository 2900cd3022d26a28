package limit

import (
	"cmp"
	"slices"
	"time"

	"example.com/threepid/limits"
)

// rules are the guard's rules: functions of a state and the time. Times are Unix milliseconds.
type rules struct{ limits.Guard }

const (
	// slotsPerWindow is the number of slots in the window. Counts leave the window slot by slot.
	slotsPerWindow = 30

	// settleSlots is the number of latest slots whose unconfirmed numbers do not count yet, because
	// reading an SMS and typing the code takes time.
	settleSlots = 1

	// rushFactor times MinNumbers are too many within those slots if almost none are validated.
	// networkRushFactor is the same for a network.
	rushFactor        = 25
	networkRushFactor = 12

	// A run is runLength numbers of a range that are requested within runWindow and not confirmed,
	// with gaps of at most runGap. The customers of a host do not produce one.
	runLength = 8
	runGap    = 3
	runKept   = 16
	runWindow = 10 * time.Minute

	// memoryAfterBlock is how much longer than MaxBlock a block is remembered after its end. During
	// that time, fewer numbers cause the next block, which lasts longer. In ranges and networks,
	// even the latest numbers count then: so few honest people share one that they rarely look like
	// an attack.
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

	// alsoNew is appended to the reason if the clients to which a blocked country is still open do
	// not validate either.
	alsoNew = ", also of clients that ask for a first number"
)

// state is what the guard remembers about a range, a country or a network.
type state struct {
	Slots   counts     `json:"n,omitempty"` // oldest first
	Run     []runEntry `json:"r,omitempty"` // ranges only: the latest numbers, oldest first
	By      []byEntry  `json:"b,omitempty"` // the latest clients
	Blocked int64      `json:"c,omitempty"` // start of the latest block; earlier counts do not apply
	Until   int64      `json:"u,omitempty"` // blocked until then
	Count   int        `json:"k,omitempty"` // number of blocks

	// Countries only.
	WhileBlocked  counts `json:"w,omitempty"` // counts of clients to which it is still open
	BlockedForAll bool   `json:"x,omitempty"` // blocked for those clients too
}

// slot counts the numbers that received an SMS in one part of the window, and the validations in
// that part.
type slot [3]int64 // index of the part, counted from 1970; SMS; validations

// counts are ordered by time.
type counts []slot

// runEntry is a number of a range: its last digits, and when it was requested.
type runEntry [2]int64

// byEntry is a client, and the slot of its latest request.
type byEntry struct {
	Client string `json:"c"`
	Slot   int64  `json:"s"`
}

// blockedFor returns for how many milliseconds the subject stays blocked.
func (s state) blockedFor(now int64) int64 { return max(0, s.Until-now) }

// current returns s without slots outside the window, and without a block that ends too far in the
// future because a clock was set back. The clock of another node may be ahead.
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
		// These counts end with the block: clients that validated during the block would otherwise
		// outweigh those that wait for its end.
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

// sent returns s after an SMS to another number. suffix is the last digits of the number, or
// negative for a country or network.
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

// area is the kind of subject that a state belongs to.
type area int

const (
	areaRange area = iota
	areaCountry
	areaNetwork
	areaHost // never judged; shows what is usual
)

// situation is what a judgement depends on, apart from the subject's own state.
type situation struct {
	area    area
	others  counts // counts of other nodes in the same phase
	percent int    // the percentage that must have validated
	excused bool   // the provider may be the cause of few validations
}

// judged returns s after a judgement, and the reason if it is blocked from now on. A blocked
// country is judged as well: the clients to which it is still open may belong to an attacker with
// an unlimited number of them, such as a network of IPv6 addresses. It is then blocked for all
// clients until the block ends.
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

// lasts returns the duration of the next block after a number of blocks.
func (g rules) lasts(count int) time.Duration {
	count = min(count, maxCount)
	if g.InitialBlock > g.MaxBlock>>count { // compared in this way to avoid an overflow
		return g.MaxBlock
	}
	return g.InitialBlock << count
}

// judge returns the reason to block a subject, or an empty string.
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

// longestRun returns the length of the longest run of neighbouring numbers, with gaps of at most
// runGap.
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

// validated returns s after a number was validated that was counted at a time.
func (g rules) validated(s state, suffix, at, now int64) state {
	s = g.current(s, now)
	if s.countedIn(at, now) {
		s.counting(now).add(g.slot(now), 0, 1)
	}
	s.Run = slices.DeleteFunc(s.Run, func(n runEntry) bool { return n[0] == suffix })
	return s
}

// notSent returns s after the SMS to a number that was counted at a time turned out not to have
// been sent. suffix is as in sent. The country or network may have been counted by another node.
// This node's count then becomes negative, so that the sum over all nodes is right.
func (g rules) notSent(s state, suffix, at, now int64) state {
	s = g.current(s, now)
	if list := s.counting(now); s.countedIn(at, now) && (suffix < 0 || list.sentIn(g.slot(at)) > 0) {
		list.add(g.slot(at), -1, 0)
	}
	s.Run = slices.DeleteFunc(s.Run, func(n runEntry) bool { return n[0] == suffix })
	return s
}

// counting returns the counts to which numbers are added at present.
func (s *state) counting(now int64) *counts {
	if s.blockedFor(now) > 0 {
		return &s.WhileBlocked
	}
	return &s.Slots
}

// countedIn reports whether a number that was counted at a time is in the present counts.
func (s *state) countedIn(at, now int64) bool {
	return !s.blockedSince(at, now) && (at < s.Until) == (s.blockedFor(now) > 0)
}

// blockedSince reports whether a block has ended the counts of a time.
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

// find returns the index of a slot, or the index at which to insert it.
func (c *counts) find(at int64) (i int, found bool) {
	return slices.BinarySearchFunc(*c, at, func(s slot, at int64) int { return cmp.Compare(s[0], at) })
}

// expires returns when the state may be forgotten.
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
