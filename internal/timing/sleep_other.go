//go:build !linux

package timing

import "time"

// sleepExactly is time.Sleep, which rounds nothing elsewhere.
func sleepExactly(d time.Duration) { time.Sleep(d) }
