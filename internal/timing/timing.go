// Package timing makes the duration of a response independent of what was found.
package timing

import "time"

// slotLength is longer than looking up an account or a session takes, and too short to
// annoy anybody who waits.
const slotLength = 10 * time.Millisecond

const (
	// coarse is more than time.Sleep is late by. On Linux it rounds up to whole
	// milliseconds when the process has nothing else to do, so that a sleep that begins
	// 20 µs later would end 20 µs later.
	coarse = 2 * time.Millisecond

	// maxExact is how many goroutines may sleep exactly at once: each takes a thread.
	maxExact = 64
)

// Slots makes work take a whole number of time slots. Finding a row takes some
// microseconds more or less than finding none, which a client that asks often enough can
// measure; and a host's own Accounts may take any time.
type Slots struct {
	exact chan struct{} // has room for maxExact
}

// NewSlots makes Slots.
func NewSlots() Slots { return Slots{exact: make(chan struct{}, maxExact)} }

// Slot is work that has begun.
type Slot struct {
	begin time.Time
	exact chan struct{}
}

// Start begins a slot.
func (s Slots) Start() Slot {
	return Slot{begin: time.Now(), exact: s.exact} //nolint:forbidigo // only differences matter
}

// Wait returns at the end of the slot.
func (s Slot) Wait() {
	took := time.Since(s.begin)
	end := s.begin.Add(took - took%slotLength + slotLength)
	time.Sleep(time.Until(end) - coarse)
	select {
	case s.exact <- struct{}{}:
		sleepExactly(time.Until(end))
		<-s.exact
	default: // so much work that microseconds no longer show
		time.Sleep(time.Until(end))
	}
}
