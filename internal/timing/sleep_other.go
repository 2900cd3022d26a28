//go:build !linux

package timing

import "time"

// sleepExactly is time.Sleep, which does not round on other systems.
func sleepExactly(d time.Duration) { time.Sleep(d) }
