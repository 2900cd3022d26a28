package observe

import "time"

// Statistic counts the events of one kind in one hour, on all nodes.
type Statistic struct {
	Hour time.Time `json:"hour"` // when the hour begins, in UTC

	// Event is one of:
	//   - "sms": an SMS was passed to the provider; Result is its Outcome
	//   - "validation": a number was validated; Result is the time since its SMS, as one of
	//     the bounds that TimesToValidate lists
	//   - "refusal": Result is the reason of the Refusal
	//   - "code": a code was compared; Result is "right" or "wrong"
	//   - "receipt": Result is the status
	Event  string `json:"event"`
	Result string `json:"result"`

	Country  string `json:"country,omitempty"`  // of the number; empty if it is not known
	Purpose  string `json:"purpose,omitempty"`  // empty for receipts, and for refused codes
	Provider string `json:"provider,omitempty"` // of the SMS, receipt or validation; otherwise empty

	Count    int64         `json:"count"`
	Segments int64         `json:"segments,omitempty"` // of SMS
	Duration time.Duration `json:"duration,omitempty"` // the sum of the latencies of SMS, or of the times to validate
}

// TimesToValidate returns the bounds that the Result of a "validation" may be: "15s" means that
// the validation took at most 15 seconds, and "more" that it took longer than the largest bound.
func TimesToValidate() []string { return []string{"15s", "30s", "1m", "2m", "5m", "10m", "more"} }
