package limits

import "time"

// Level is how much of a limit of a number is used.
type Level struct {
	Scope string // such as "SMS to the number" or "SMS to the range"
	Limit Limit
	Left  int       // how many it allows now
	Next  time.Time // when it allows the next one; zero if Left is not 0
	Full  time.Time // when it allows Burst again; zero if it does now
}
