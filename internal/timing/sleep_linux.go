package timing

import (
	"syscall"
	"time"
)

// sleepExactly sleeps to some 50 µs, and blocks a thread for that time. A signal may
// cut it short, and often does: the scheduler's own.
func sleepExactly(d time.Duration) {
	for end := time.Now().Add(d); d > 0; d = time.Until(end) { //nolint:forbidigo // only differences matter
		left := syscall.NsecToTimespec(d.Nanoseconds())
		if err := syscall.Nanosleep(&left, nil); err != nil && err != syscall.EINTR {
			time.Sleep(d)
		}
	}
}
