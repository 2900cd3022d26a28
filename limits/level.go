package limits

import "time"

// Level is how much of a limit of a number is used.
type Level struct {
	Scope string    `json:"scope"` // the field of Limits, such as "PerNumber"
	Limit Limit     `json:"limit"`
	Left  int       `json:"left"`          // how many it allows now
	Next  time.Time `json:"next,omitzero"` // when it allows the next one; zero if Left is not 0
	Full  time.Time `json:"full,omitzero"` // when it allows Burst again; zero if it does now
}
