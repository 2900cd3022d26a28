//go:build !linux

package verify

import "time"

// sleepExactly is time.Sleep, which rounds nothing elsewhere.
func sleepExactly(d time.Duration) { time.Sleep(d) }
