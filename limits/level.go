package limits

import "time"

// Level reports how much of a limit on a number is used.
type Level struct {
	Scope string    `json:"scope"` // the field of Limits, such as "PerNumber"
	Limit Limit     `json:"limit"`
	Left  int       `json:"left"`          // how many SMS or wrong codes the limit allows now
	Next  time.Time `json:"next,omitzero"` // when the limit allows the next one; zero if Left is not 0
	Full  time.Time `json:"full,omitzero"` // when the limit allows Burst again; zero if it does now
}
