package verify

import (
	"testing"
	"time"
)

var guard = Guard{
	On: true, MinNumbers: 20, MinPercent: 20, Window: time.Hour, CloseFirst: 15 * time.Minute, CloseMost: 12 * time.Hour,
}

// watch is a guard at work on one block.
type watch struct {
	guardState
	now    int64
	closed []string // the reasons
}

func (w *watch) text(suffix int64) {
	var reason string
	w.guardState = guard.texted(w.guardState, suffix, w.now)
	if w.guardState, reason = guard.judged(w.guardState, map[bool]scope{true: scopeBlock, false: scopeCountry}[suffix >= 0], w.now); reason != "" {
		w.closed = append(w.closed, reason)
	}
}

// scattered are numbers that lie far from each other.
func scattered(i int) int64 { return int64(i*97) % 10_000 }

func startOfWatch() *watch { return &watch{now: 1_700_000_000_000} }

func TestGuardClosesWhatNobodyConfirms(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	for i := range 20 {
		w.text(scattered(i))
	}
	if len(w.closed) > 0 {
		t.Fatalf("closed before anybody can have typed a code: %v", w.closed)
	}
	w.now += 5 * minute
	w.text(scattered(20))
	if len(w.closed) != 1 || w.closedFor(w.now) != 15*minute {
		t.Fatalf("closed %v for %d", w.closed, w.closedFor(w.now))
	}
}

func TestGuardSparesWhatPeopleConfirm(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	for i := range 500 { // one in four, after a minute
		w.text(scattered(i))
		w.now += minute
		if i%4 == 0 {
			w.guardState = guard.validated(w.guardState, scattered(i), w.now, w.now)
		}
	}
	if len(w.closed) > 0 {
		t.Errorf("closed: %v", w.closed)
	}
}

// TestGuardWindowSlides has the validations of long ago not help.
func TestGuardWindowSlides(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	for i := range 100 {
		w.text(scattered(i))
		w.guardState = guard.validated(w.guardState, scattered(i), w.now, w.now)
	}
	w.now += 61 * minute
	for i := range 25 {
		w.text(scattered(i))
		w.now += minute
	}
	if len(w.closed) != 1 {
		t.Errorf("closed %d times", len(w.closed))
	}
}

func TestGuardNoticesARush(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	texts := 0
	for ; len(w.closed) == 0 && texts < 2000; texts++ {
		w.text(-1) // a country
	}
	if texts != 500 {
		t.Errorf("a rush of %d went through", texts)
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
		for ; len(w.closed) == 0 && texts < 100; texts++ {
			w.text(numbers(texts))
		}
		if texts > 16 || w.closed[0] != reasonRun {
			t.Errorf("%s: %d texts went out, then %v", name, texts, w.closed)
		}
	}
	w := startOfWatch()
	for i := range int64(100) { // a company's, whose people confirm
		w.text(1234 + i)
		w.guardState = guard.validated(w.guardState, 1234+i, w.now, w.now)
	}
	for range 100 { // one number again and again
		w.text(77)
	}
	if len(w.closed) > 0 {
		t.Errorf("closed: %v", w.closed)
	}
}

// TestGuardClosesForLonger has it close again and again, each time twice as
// long and after fewer numbers, up to the most, and forget in the end.
func TestGuardClosesForLonger(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	next := 0
	texts := func() (n int) {
		for times := len(w.closed); len(w.closed) == times; n++ {
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
			t.Errorf("closing %d lasts %d, want %v", i+1, got, want)
		}
		if i > 0 && n != max(20>>i, fewestNumbers) {
			t.Errorf("closing %d took %d texts", i+1, n)
		}
		w.now = w.Until
	}
	w.now += (25 * time.Hour).Milliseconds()
	if texts() < 20 || w.Strikes != 1 {
		t.Errorf("a day later it has not forgotten: %d strikes", w.Strikes)
	}
}

// TestGuardClosesForAsLongAsItMay has it close so often that twice as long again
// would be more than a duration can tell.
func TestGuardClosesForAsLongAsItMay(t *testing.T) {
	t.Parallel()
	g := guard
	g.MinNumbers, g.CloseFirst, g.CloseMost = 1, 7*24*time.Hour, 7*24*time.Hour
	for strikes := range 40 {
		s, reason := g.judged(guardState{Strikes: strikes, Slots: []guardSlot{{g.slot(1_700_000_000_000) - 3, 20, 0}}, Until: 1_700_000_000_000}, scopeBlock, 1_700_000_000_000)
		if left := s.closedFor(1_700_000_000_000); reason == "" || left != g.CloseMost.Milliseconds() {
			t.Errorf("closed %d times before, it closes for %d ms", strikes, left)
		}
	}
}

// TestGuardIsNotStuck has a closing end far ahead, by a clock that is set back since:
// nobody who is refused writes, so who waits as long as he is told must be let through.
func TestGuardIsNotStuck(t *testing.T) {
	t.Parallel()
	now := int64(1_700_000_000_000)
	stored := guardState{Until: now + 365*24*60*minute, Strikes: 3}
	for range 3 {
		left := guard.current(stored, now).closedFor(now)
		if left == 0 {
			return
		}
		now += left
	}
	t.Error("closed again and again, each time for as long as it may")
}

// TestGuardBearsSlowClocks has a node whose clock is a second behind keep closed what
// another has closed for as long as it may.
func TestGuardBearsSlowClocks(t *testing.T) {
	t.Parallel()
	now := int64(1_700_000_000_000)
	stored := guardState{Until: now + 1000 + guard.CloseMost.Milliseconds(), Strikes: 9}
	if guard.current(stored, now).closedFor(now) == 0 {
		t.Error("open on a node whose clock is a second behind")
	}
}

func TestGuardTakesBackWhatDidNotLeave(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	for i := range int64(100) {
		at := w.now
		w.text(1234 + i)
		w.now += 3 * minute
		w.guardState = guard.notTexted(w.guardState, 1234+i, at, w.now)
	}
	if len(w.closed) > 0 {
		t.Errorf("closed for texts that did not leave: %v", w.closed)
	}
}

// TestGuardShutsAClosedCountry has those whom it is still open to be judged too:
// by their own texts, and only once.
func TestGuardShutsAClosedCountry(t *testing.T) {
	t.Parallel()
	closed := startOfWatch()
	for range 500 {
		closed.text(-1)
	}
	until := closed.Until
	if len(closed.closed) != 1 || closed.Shut {
		t.Fatalf("%+v", closed)
	}
	honest, attacker := *closed, *closed
	for i := range 60 {
		honest.now += 10_000
		honest.text(-1)
		if i%3 == 0 {
			honest.guardState = guard.validated(honest.guardState, -1, honest.now, honest.now)
		}
		if attacker.now += 10_000; !attacker.Shut {
			attacker.text(-1)
		}
	}
	if honest.Shut || len(honest.closed) != 1 {
		t.Errorf("shut to people who confirm: %+v", honest)
	}
	if !attacker.Shut || len(attacker.closed) != 2 || attacker.Until != until || attacker.Strikes != 1 {
		t.Errorf("not shut, or for longer: %+v", attacker)
	}
	attacker.now = until
	if attacker.closedFor(attacker.now) != 0 {
		t.Error("shut for ever")
	}
	attacker.text(-1)
	if len(attacker.closed) != 2 {
		t.Error("closed again for what was before")
	}

	block := startOfWatch()
	for i := range 500 {
		block.text(scattered(i))
	}
	if block.Shut {
		t.Error("a block has nobody whom it is still open to")
	}
}

// TestGuardForgetsWhatWasBeforeItClosed has a text of before a closing turn out not
// to have left, and another of then validate: neither changes what is counted of
// those to whom a country is still open.
func TestGuardForgetsWhatWasBeforeItClosed(t *testing.T) {
	t.Parallel()
	w := startOfWatch()
	before := w.now
	for len(w.closed) == 0 {
		w.text(-1)
		w.now++
	}
	w.text(-1) // of a newcomer
	for range 3 {
		w.guardState = guard.notTexted(w.guardState, -1, before, w.now)
		w.guardState = guard.validated(w.guardState, -1, before, w.now)
	}
	if len(w.While) != 1 || w.While[0][1] != 1 || w.While[0][2] != 0 {
		t.Errorf("while closed it counts %v", w.While)
	}
}
