package limit

import (
	"fmt"
	"testing"
	"time"

	"example.com/threepid/limits"
)

var guard = rules{limits.Guard{}.WithDefaults()}

// watch applies the guard's rules to one subject.
type watch struct {
	state
	now     int64
	blocked []string // the reasons
	asked   int
}

// client returns a different client for each call.
func (w *watch) client() string {
	w.asked++
	return fmt.Sprint("client", w.asked)
}

func (w *watch) text(suffix int64) {
	var reason string
	w.state = guard.sent(w.state, w.client(), suffix, w.now)
	if w.state, reason = guard.judged(w.state, situation{area: map[bool]area{true: areaRange, false: areaCountry}[suffix >= 0], percent: 20}, w.now); reason != "" {
		w.blocked = append(w.blocked, reason)
	}
}

// scattered returns the last digits of numbers that are far apart.
func scattered(i int) int64 { return int64(i*97) % 10_000 }

func startOfWatch() *watch { return &watch{now: 1_700_000_000_000} }

func TestGuardBlocksUnconfirmedNumbers(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	for i := range 20 {
		w.text(scattered(i))
	}
	if len(w.blocked) > 0 {
		t.Fatalf("closed before anybody can have typed a code: %v", w.blocked)
	}
	w.now += 5 * minute
	w.text(scattered(20))
	if len(w.blocked) != 1 || w.blockedFor(w.now) != 15*minute {
		t.Fatalf("closed %v for %d", w.blocked, w.blockedFor(w.now))
	}
}

func TestGuardAllowsConfirmedNumbers(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	for i := range 500 { // one in four validates after a minute
		w.text(scattered(i))
		w.now += minute
		if i%4 == 0 {
			w.state = guard.validated(w.state, scattered(i), w.now, w.now)
		}
	}
	if len(w.blocked) > 0 {
		t.Errorf("closed: %v", w.blocked)
	}
}

// TestGuardWindowSlides checks that validations before the window do not count.
func TestGuardWindowSlides(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	for i := range 100 {
		w.text(scattered(i))
		w.state = guard.validated(w.state, scattered(i), w.now, w.now)
	}
	w.now += 61 * minute
	for i := range 25 {
		w.text(scattered(i))
		w.now += minute
	}
	if len(w.blocked) != 1 {
		t.Errorf("closed %d times", len(w.blocked))
	}
}

func TestGuardNoticesABurst(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	texts := 0
	for ; len(w.blocked) == 0 && texts < 2000; texts++ {
		w.text(-1) // a country
	}
	if texts != 500 {
		t.Errorf("a rush of %d was allowed", texts)
	}
}

func TestGuardNoticesConsecutiveNumbers(t *testing.T) {
	t.Parallel()
	for name, numbers := range map[string]func(i int64) int64{
		"upwards":   func(i int64) int64 { return 1234 + i },
		"downwards": func(i int64) int64 { return 1234 - i },
		"by threes": func(i int64) int64 { return 1234 + 3*i },
		"two runs":  func(i int64) int64 { return 1234 + i/2 + i%2*5000 },
		"unordered": func(i int64) int64 { return 1234 + i*5%16 },
	} {
		w := startOfWatch()
		texts := int64(0)
		for ; len(w.blocked) == 0 && texts < 100; texts++ {
			w.text(numbers(texts))
		}
		if texts > 16 || w.blocked[0] != reasonRun {
			t.Errorf("%s: %d SMS were sent, then %v", name, texts, w.blocked)
		}
	}
	w := startOfWatch()
	for i := range int64(100) { // the numbers of a company, which are confirmed
		w.text(1234 + i)
		w.state = guard.validated(w.state, 1234+i, w.now, w.now)
	}
	for range 100 { // one number repeatedly
		w.text(77)
	}
	if len(w.blocked) > 0 {
		t.Errorf("closed: %v", w.blocked)
	}
}

// TestGuardBlocksForLonger causes blocks repeatedly. Each lasts twice as long as the one before and
// needs fewer numbers, up to the longest block. After a pause, the guard has forgotten them.
func TestGuardBlocksForLonger(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	next := 0
	texts := func() (n int) {
		for times := len(w.blocked); len(w.blocked) == times; n++ {
			w.text(scattered(next))
			next++
			w.now += minute
			if n > 100 {
				t.Fatal("it does not close")
			}
		}
		return n
	}
	for i, want := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour, 12 * time.Hour} {
		n := texts()
		if got := w.Until - (w.now - minute); got != want.Milliseconds() {
			t.Errorf("block %d lasts %d, want %v", i+1, got, want)
		}
		if i > 0 && n != max(20>>i, minNumbersAgain) {
			t.Errorf("block %d took %d SMS", i+1, n)
		}
		w.now = w.Until
	}
	w.now += (25 * time.Hour).Milliseconds()
	if texts() < 20 || w.Count != 1 {
		t.Errorf("a day later it has not forgotten: %d strikes", w.Count)
	}
}

// TestGuardBlocksUpToMaxBlock causes enough blocks that doubling once more would overflow a
// duration.
func TestGuardBlocksUpToMaxBlock(t *testing.T) {
	t.Parallel()
	g := guard
	g.MinNumbers, g.InitialBlock, g.MaxBlock = 1, 7*24*time.Hour, 7*24*time.Hour
	for strikes := range 40 {
		s, reason := g.judged(state{Count: strikes, By: []byEntry{{"a", g.slot(1_700_000_000_000)}, {"b", g.slot(1_700_000_000_000)}, {"c", g.slot(1_700_000_000_000)}}, Slots: counts{{g.slot(1_700_000_000_000) - 3, 20, 0}}, Until: 1_700_000_000_000}, situation{area: areaRange, percent: 20}, 1_700_000_000_000)
		if left := s.blockedFor(1_700_000_000_000); reason == "" || left != g.MaxBlock.Milliseconds() {
			t.Errorf("blocked %d times before, it blocks for %d ms", strikes, left)
		}
	}
}

// TestGuardAfterAClockWasSetBack sets a block with an end far in the future, as after a clock was set back. A
// refused request writes nothing, so a client that waits for as long as the response says must
// succeed.
func TestGuardAfterAClockWasSetBack(t *testing.T) {
	t.Parallel()
	now := int64(1_700_000_000_000)
	stored := state{Until: now + 365*24*60*minute, Count: 3}
	for range 3 {
		left := guard.current(stored, now).blockedFor(now)
		if left == 0 {
			return
		}
		now += left
	}
	t.Error("closed again and again, each time for as long as it may")
}

// TestGuardAllowsSlowClocks checks that a node whose clock is a second behind keeps another node's
// longest block.
func TestGuardAllowsSlowClocks(t *testing.T) {
	t.Parallel()
	now := int64(1_700_000_000_000)
	stored := state{Until: now + 1000 + guard.MaxBlock.Milliseconds(), Count: 9}
	if guard.current(stored, now).blockedFor(now) == 0 {
		t.Error("open on a node whose clock is a second behind")
	}
}

func TestGuardUncountsUnsentSMS(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	for i := range int64(100) {
		at := w.now
		w.text(1234 + i)
		w.now += 3 * minute
		w.state = guard.notSent(w.state, 1234+i, at, w.now)
	}
	if len(w.blocked) > 0 {
		t.Errorf("blocked for SMS that were not sent: %v", w.blocked)
	}
}

// TestGuardBlocksACountryForAll judges the clients to which a blocked country is still open by
// their own SMS only, and blocks them once.
func TestGuardBlocksACountryForAll(t *testing.T) {
	t.Parallel()
	closed := startOfWatch()
	for range 500 {
		closed.text(-1)
	}
	until := closed.Until
	if len(closed.blocked) != 1 || closed.BlockedForAll {
		t.Fatalf("%+v", closed)
	}
	honest, attacker := *closed, *closed
	for i := range 60 {
		honest.now += 10_000
		honest.text(-1)
		if i%3 == 0 {
			honest.state = guard.validated(honest.state, -1, honest.now, honest.now)
		}
		if attacker.now += 10_000; !attacker.BlockedForAll {
			attacker.text(-1)
		}
	}
	if honest.BlockedForAll || len(honest.blocked) != 1 {
		t.Errorf("shut to people who confirm: %+v", honest)
	}
	if !attacker.BlockedForAll || len(attacker.blocked) != 2 || attacker.Until != until || attacker.Count != 1 {
		t.Errorf("not shut, or for longer: %+v", attacker)
	}
	attacker.now = until
	if attacker.blockedFor(attacker.now) != 0 {
		t.Error("shut for ever")
	}
	attacker.text(-1)
	if len(attacker.blocked) != 2 {
		t.Error("closed again for what was before")
	}

	block := startOfWatch()
	for i := range 500 {
		block.text(scattered(i))
	}
	if block.BlockedForAll {
		t.Error("a block has nobody whom it is still open to")
	}
}

// TestGuardForgetsCountsBeforeABlock reports, during a block, that an SMS before the block was
// not sent, and that another one was validated. Neither changes the counts of the clients to which
// the country is still open.
func TestGuardForgetsCountsBeforeABlock(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	before := w.now
	for len(w.blocked) == 0 {
		w.text(-1)
		w.now++
	}
	w.text(-1) // of a new client
	for range 3 {
		w.state = guard.notSent(w.state, -1, before, w.now)
		w.state = guard.validated(w.state, -1, before, w.now)
	}
	if len(w.WhileBlocked) != 1 || w.WhileBlocked[0][1] != 1 || w.WhileBlocked[0][2] != 0 {
		t.Errorf("while closed it counts %v", w.WhileBlocked)
	}
}
