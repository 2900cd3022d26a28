// Package timing makes the duration of a response independent of what was found.
package timing

import "time"

// slotLength is longer than the look-up of an account or a session takes, and short enough not
// to be noticed.
const slotLength = 10 * time.Millisecond

const (
	// coarse is longer than the delay of time.Sleep. On Linux, time.Sleep rounds up to whole
	// milliseconds if the process is idle, so that a sleep which begins 20 µs later would end
	// 20 µs later.
	coarse = 2 * time.Millisecond

	// maxExact is how many goroutines may sleep exactly at once: each takes a thread.
	maxExact = 64
)

// Slots makes work take a whole number of time slots. Finding a row takes some microseconds
// more or less than finding none, which a client can measure with enough requests. A host's
// own Accounts may take any time.
type Slots struct {
	exact chan struct{} // of capacity maxExact
}

// NewSlots returns Slots.
func NewSlots() Slots { return Slots{exact: make(chan struct{}, maxExact)} }

// Slot is work in progress.
type Slot struct {
	begin time.Time
	exact chan struct{}
}

// Start begins a slot.
func (s Slots) Start() Slot {
	return Slot{begin: time.Now(), exact: s.exact} //nolint:forbidigo // only differences matter
}

// Wait waits for the end of the slot.
func (s Slot) Wait() {
	took := time.Since(s.begin)
	end := s.begin.Add(took - took%slotLength + slotLength)
	time.Sleep(time.Until(end) - coarse)
	select {
	case s.exact <- struct{}{}:
		sleepExactly(time.Until(end))
		<-s.exact
	default: // with so much work, microseconds are not measurable
		time.Sleep(time.Until(end))
	}
}
