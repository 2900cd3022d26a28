package limit

import (
	"testing"
	"time"

	"example.com/threepid/limits"
)

const minute = int64(time.Minute / time.Millisecond)

// FuzzLimit uses a limit at arbitrary times and compares it with a slow model without levels, which
// checks every span of time that ends now.
func FuzzLimit(f *testing.F) {
	f.Add(uint8(5), uint16(600), []byte{0, 0, 0, 0, 0, 0, 255, 1, 2, 3})
	f.Add(uint8(1), uint16(1), []byte{0, 1, 0, 1, 1, 2})
	f.Add(uint8(8), uint16(40), []byte{9, 9, 9, 200, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0})
	f.Fuzz(func(t *testing.T, burst uint8, per uint16, pauses []byte) {
		l := limits.Limit{Burst: int(burst%20) + 1, Every: time.Duration(per%1000+1) * time.Millisecond}
		if len(pauses) > 300 {
			pauses = pauses[:300]
		}
		var level int64
		now := int64(1_700_000_000_000)
		let := &slowLimit{Limit: l}
		for _, pause := range pauses {
			now += int64(pause) * int64(l.Burst) // up to the time of many bursts
			next, wait := take(l, level, now)
			if room := let.room(now); room != (wait == 0) {
				t.Fatalf("%v at %d after %v: wait %d, but there is room: %v", l, now, let.times, wait, room)
			}
			if wait == 0 {
				let.times = append(let.times, now)
			} else if let.room(now+wait-1) || !let.room(now+wait) {
				t.Fatalf("%v at %d after %v: to wait %d is not the least", l, now, let.times, wait)
			}
			level = next
		}
	})
}

// slowLimit remembers the time of each event that it allowed.
type slowLimit struct {
	limits.Limit
	times []int64
}

// room reports whether another event at now leaves, in every span of time, no more than Burst and
// one for each Every in the span.
func (s *slowLimit) room(now int64) bool {
	for i, since := range s.times {
		if int64(len(s.times)-i+1) > int64(s.Burst)+(now-since)/s.Every.Milliseconds() {
			return false
		}
	}
	return s.Burst > 0
}

func TestLimitGivesBack(t *testing.T) {
	t.Parallel()
	l := limits.Limit{Burst: 3, Every: time.Minute}
	level := int64(0)
	now := int64(1_000_000_000)
	takeOne := func() (wait int64) {
		level, wait = take(l, level, now)
		return wait
	}
	for range 3 {
		if takeOne() != 0 {
			t.Fatal("refused within the burst")
		}
	}
	if wait := takeOne(); wait != minute {
		t.Errorf("to wait %d", wait)
	}
	level = giveBack(l, level, now)
	if takeOne() != 0 || takeOne() == 0 {
		t.Error("one given back is not one more")
	}
	for range 10 {
		level = giveBack(l, level, now)
	}
	for range 3 {
		if takeOne() != 0 {
			t.Error("refused after all was given back")
		}
	}
	if takeOne() == 0 {
		t.Error("giving back more than was taken allows more than the burst")
	}
}

// TestLimitAfterAClockWasSetBack stores a level far in the future, as after a clock was set back or a limit
// was shortened. A refusal writes nothing, so a client that waits for as long as the response says
// must succeed.
func TestLimitAfterAClockWasSetBack(t *testing.T) {
	t.Parallel()
	l := limits.Limit{Burst: 2, Every: time.Minute}
	now := int64(1_700_000_000_000)
	level := now + 30*24*60*minute
	for range 3 {
		_, wait := take(l, level, now)
		if wait == 0 {
			return
		}
		now += wait
	}
	t.Error("refused again and again, each time for a minute")
}

// TestLimitAllowsSlowClocks also uses a limit on a node whose clock is a second ahead, which must
// not allow more.
func TestLimitAllowsSlowClocks(t *testing.T) {
	t.Parallel()
	l := limits.Limit{Burst: 2, Every: time.Minute}
	now := int64(1_700_000_000_000)
	level := int64(0)
	for range 2 {
		level, _ = take(l, level, now+1000)
	}
	if _, wait := take(l, level, now); wait == 0 {
		t.Error("a full limit allows more on a node whose clock is a second behind")
	}
}

func TestSeveralLimitsTakeFromAllOrNone(t *testing.T) {
	t.Parallel()
	list := []limits.Limit{{Burst: 3, Every: time.Minute}, {Burst: 2, Every: time.Hour, CountValidated: true}}
	now := int64(1_000_000_000)
	var levels []int64
	var wait int64
	for i := range 2 {
		if levels, wait = takeAll(list, levels, now); wait != 0 {
			t.Fatal("refused", i)
		}
	}
	before := levels
	if levels, wait = takeAll(list, levels, now); wait != 60*minute || levels[0] != before[0] {
		t.Errorf("to wait %d, levels %v, were %v", wait, levels, before)
	}
	back := giveBackAll(list, levels, 2, false, now)
	if back[0] != now || back[1] != levels[1] {
		t.Errorf("given back %v: the final one must stay", back)
	}
	if back = giveBackAll(list, levels, 2, true, now); back[0] != now || back[1] != now {
		t.Errorf("given back %v: an SMS that was not sent must be given back to all", back)
	}
}
