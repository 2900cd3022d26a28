package verify

import (
	"slices"
	"time"
)

// Guard closes a block of numbers or a country to texts that hardly anybody
// confirms, which is what SMS pumping looks like. Its rules are functions of a
// guardState and the time; times are Unix milliseconds.
type Guard struct {
	On      bool
	Observe bool // tell, but close nothing

	MinNumbers int           // how many numbers must have been texted before it judges
	MinPercent int           // how many of a hundred of them must have validated
	Window     time.Duration // how far back it looks
	CloseFirst time.Duration // for how long it closes first; doubled each time
	CloseMost  time.Duration

	// Allow are beginnings of numbers in E.164 without the plus sign, and
	// countries, that are never closed.
	Allow []string
}

const (
	// guardSlots is how many parts the window has: what is counted leaves it
	// part by part.
	guardSlots = 30

	// settleSlots is for how many of the latest parts nothing is held against
	// numbers that have not validated yet: reading a text and typing takes time.
	settleSlots = 1

	// rushFactor says how many times MinNumbers are too many in that time, with
	// next to no validation among them.
	rushFactor = 25

	// A run is runLength numbers, texted within runWindow and not confirmed,
	// each at most runGap after the next. Nobody's customers come like that.
	runLength = 8
	runGap    = 3
	runKept   = 16
	runWindow = 10 * time.Minute

	// probation is for how long after a closing it is remembered, beyond
	// CloseMost. Meanwhile fewer numbers are enough to close again, for longer;
	// and a block's are held against it at once, since it is so small that honest
	// people seldom come together in it.
	probation     = 12 * time.Hour
	fewestNumbers = 3
	mostStrikes   = 16
)

// Reasons for closing.
const (
	reasonRatio = "few validations"
	reasonRush  = "many texts at once, few validations"
	reasonRun   = "consecutive numbers"

	// alsoNew is said of a closed country when those whom it is still open to do
	// not confirm either.
	alsoNew = ", also of clients that ask for a first number"
)

// guardState is what a guard remembers of a block, a country or a network.
type guardState struct {
	Slots   guardCounts   `json:"n,omitempty"` // oldest first
	Run     []guardNumber `json:"r,omitempty"` // blocks only: the latest numbers, oldest first
	Closed  int64         `json:"c,omitempty"` // when it was closed last; what was counted before no longer is
	Until   int64         `json:"u,omitempty"` // closed until then
	Strikes int           `json:"k,omitempty"` // how often it was closed
	While   guardCounts   `json:"w,omitempty"` // counted while it was closed, of clients that it is still open to
	Shut    bool          `json:"x,omitempty"` // closed to them as well
}

// guardSlot counts the numbers that were texted in one part of the window, and
// those that validated in it.
type guardSlot [3]int64 // which part since 1970; texted; validated

// guardCounts are in the order of time.
type guardCounts []guardSlot

// guardNumber is a number of a block: its last digits, and when it was texted.
type guardNumber [2]int64

// closedFor tells how many milliseconds it will stay closed.
func (s guardState) closedFor(now int64) int64 { return max(0, s.Until-now) }

// current is s without what has left the window, and without a closing that a
// clock set back has put far into the future.
func (g Guard) current(s guardState, now int64) guardState {
	first := g.slot(now) - guardSlots + 1
	outside := func(c guardSlot) bool { return c[0] < first || c[0] > g.slot(now) }
	s.Slots, s.While = slices.DeleteFunc(slices.Clone(s.Slots), outside), slices.DeleteFunc(slices.Clone(s.While), outside)
	s.Run = slices.DeleteFunc(slices.Clone(s.Run), func(n guardNumber) bool {
		return n[1] <= now-runWindow.Milliseconds() || n[1] > now
	})
	if longest := now + g.CloseMost.Milliseconds(); s.Until > longest+clockSlack.Milliseconds() {
		s.Closed, s.Until, s.Strikes = 0, 0, 0 // see Limit.within
	} else {
		s.Until = min(s.Until, longest)
	}
	if s.closedFor(now) == 0 {
		// It does not count from then on: who came in meanwhile and confirmed would
		// cover for those who wait until it opens.
		s.While, s.Shut = nil, false
	}
	if s.Until != 0 && now >= s.forgottenAt(g) {
		s.Closed, s.Until, s.Strikes = 0, 0, 0
	}
	return s
}

func (s guardState) forgottenAt(g Guard) int64 {
	return s.Until + (g.CloseMost + probation).Milliseconds()
}

func (g Guard) slot(now int64) int64 { return now / (g.Window.Milliseconds() / guardSlots) }

// texted is s after another number was texted. suffix is the last digits of the
// number, or negative for a country.
func (g Guard) texted(s guardState, suffix, now int64) guardState {
	s = g.current(s, now)
	s.counting(now).count(g.slot(now), 1, 0)
	if suffix >= 0 {
		s.Run = append(slices.DeleteFunc(s.Run, func(n guardNumber) bool { return n[0] == suffix }), guardNumber{suffix, now})
		s.Run = s.Run[max(0, len(s.Run)-runKept):]
	}
	return s
}

// judged is s after it was looked at, and why it is closed from now on; no reason
// if it is not. A closed country is looked at too: the clients that it is still
// open to may be an attacker's who has any number of them, such as a network of
// IPv6 addresses. Then it is shut for the rest of the time.
func (g Guard) judged(s guardState, of scope, now int64) (next guardState, reason string) {
	s = g.current(s, now)
	closed := s.closedFor(now) > 0
	if closed && (of != scopeCountry || s.Shut || g.Observe) {
		return s, ""
	}
	if reason = g.judge(s, of != scopeCountry, now); reason == "" {
		return s, ""
	}
	if closed {
		s.Shut = true
		return s, reason + alsoNew
	}
	s.Closed, s.Slots, s.Run = now, nil, nil
	s.Until = now + g.closes(s.Strikes).Milliseconds()
	s.Strikes++
	return s, reason
}

// closes is for how long it closes what was closed so often before.
func (g Guard) closes(strikes int) time.Duration {
	strikes = min(strikes, mostStrikes)
	if g.CloseFirst > g.CloseMost>>strikes { // asked so that nothing overflows
		return g.CloseMost
	}
	return g.CloseFirst << strikes
}

// judge tells why a block, a country or a network is to be closed. A small one has
// its latest numbers held against it once it was closed before.
func (g Guard) judge(s guardState, small bool, now int64) string {
	latest := g.slot(now) - settleSlots
	if small && s.Strikes > 0 {
		latest = g.slot(now) + 1
	}
	var settled, all, validated int64
	for _, c := range *s.counting(now) {
		all += c[1]
		validated += c[2]
		if c[0] < latest {
			settled += c[1]
		}
	}
	least := int64(max(g.MinNumbers>>min(s.Strikes, mostStrikes), min(fewestNumbers, g.MinNumbers)))
	few := func(of int64) bool { return validated*100 < int64(g.MinPercent)*of }
	switch {
	case settled >= least && few(settled):
		return reasonRatio
	case all >= least*rushFactor && few(all):
		return reasonRush
	case longestRun(s.Run) >= runLength:
		return reasonRun
	}
	return ""
}

// longestRun is how many numbers lie side by side, with gaps of at most runGap.
func longestRun(numbers []guardNumber) int {
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

// validated is s after a number has validated that was counted at a time.
func (g Guard) validated(s guardState, suffix, at, now int64) guardState {
	s = g.current(s, now)
	if s.countedIn(at, now) {
		s.counting(now).count(g.slot(now), 0, 1)
	}
	s.Run = slices.DeleteFunc(s.Run, func(n guardNumber) bool { return n[0] == suffix })
	return s
}

// notTexted is s after it turned out that the text of a number that was counted
// at a time did not leave.
func (g Guard) notTexted(s guardState, suffix, at, now int64) guardState {
	s = g.current(s, now)
	if slots := *s.counting(now); s.countedIn(at, now) {
		for i := range slots {
			if slots[i][0] == g.slot(at) {
				slots[i][1] = max(0, slots[i][1]-1)
			}
		}
	}
	s.Run = slices.DeleteFunc(s.Run, func(n guardNumber) bool { return n[0] == suffix })
	return s
}

// counting is where numbers are counted now.
func (s *guardState) counting(now int64) *guardCounts {
	if s.closedFor(now) > 0 {
		return &s.While
	}
	return &s.Slots
}

// countedIn tells whether a number of that time was counted where numbers are
// counted now.
func (s *guardState) countedIn(at, now int64) bool {
	return !s.closedSince(at, now) && (at < s.Until) == (s.closedFor(now) > 0)
}

// closedSince tells whether what was counted at a time no longer is.
func (s *guardState) closedSince(at, now int64) bool { return at <= s.Closed && s.Closed <= now }

// count adds to the slot of the present.
func (c *guardCounts) count(slot, texted, validated int64) {
	if n := len(*c); n == 0 || (*c)[n-1][0] != slot {
		*c = append(*c, guardSlot{slot})
	}
	last := &(*c)[len(*c)-1]
	last[1] += texted
	last[2] += validated
}

// expires is when nothing is left to remember.
func (s guardState) expires(g Guard) int64 {
	at := int64(0)
	if n := len(s.Slots); n > 0 {
		at = (s.Slots[n-1][0] + guardSlots) * (g.Window.Milliseconds() / guardSlots)
	}
	if s.Until != 0 {
		at = max(at, s.forgottenAt(g))
	}
	return at
}
