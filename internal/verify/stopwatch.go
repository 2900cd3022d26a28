package verify

import "time"

// evenSlot is more than it takes to look an account or a session up, and less
// than anybody minds who waits for the answer.
const evenSlot = 10 * time.Millisecond

const (
	// coarse is more than time.Sleep is late by. On Linux it rounds what is left up
	// to whole milliseconds when the process has nothing else to do: who began to
	// sleep 20 µs later would wake 20 µs later, and nothing would be even.
	coarse = 2 * time.Millisecond

	// mostExact is how many may sleep exactly at once: each takes a thread.
	mostExact = 64
)

// stopwatch makes what must not tell by its duration what it found take a whole
// number of slots. To find a row takes some microseconds longer or shorter than to
// find none, which those see who ask often enough; and nobody knows how long a
// host's own Accounts take.
type stopwatch struct {
	begin time.Time
	exact chan struct{} // has room for mostExact
}

func (s *Service) startWatch() stopwatch {
	return stopwatch{begin: time.Now(), exact: s.exact} //nolint:forbidigo // no matter what time it is
}

// even returns at the end of the slot.
func (w stopwatch) even() {
	took := time.Since(w.begin)
	end := w.begin.Add(took - took%evenSlot + evenSlot)
	time.Sleep(time.Until(end) - coarse)
	select {
	case w.exact <- struct{}{}:
		sleepExactly(time.Until(end))
		<-w.exact
	default: // so much work that microseconds no longer show
		time.Sleep(time.Until(end))
	}
}
