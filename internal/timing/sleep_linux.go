package timing

import (
	"syscall"
	"time"
)

// sleepExactly sleeps with an error of about 50 µs, and blocks a thread for that time. A signal,
// often one of Go's scheduler, may end it early.
func sleepExactly(d time.Duration) {
	for end := time.Now().Add(d); d > 0; d = time.Until(end) { //nolint:forbidigo // only differences matter
		left := syscall.NsecToTimespec(d.Nanoseconds())
		if err := syscall.Nanosleep(&left, nil); err != nil && err != syscall.EINTR {
			time.Sleep(d)
		}
	}
}
