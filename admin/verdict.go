package admin

import (
	"fmt"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/observe"
)

// Verdict explains in a sentence why a person gets no code, or why they should have received one.
func (l *lookUp) Verdict() string {
	x := l.Found
	var until time.Time
	refused := "Codes for this number"
	for _, b := range x.Blocks {
		if b.Until.After(until) {
			until = b.Until
		}
		if b.Reason != "limit on wrong codes" {
			refused = "SMS to this number"
		}
	}
	switch {
	case x.Policy != "":
		return "No SMS is sent to this number, because the policy refuses it."
	case x.TestNumber:
		return "No SMS is sent to this number, because it is a test number."
	case !until.IsZero():
		return refused + " are refused until " + minuteOf(until) + " UTC. The blocks are listed below."
	}
	return "Nothing blocks this number. " + latest(x.Events)
}

func minuteOf(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// latest says what happened to the latest request. Events are the latest first.
func latest(events []observe.Event) string {
	receipts := make(map[string]observe.Receipt) // the latest of each SMS
	wrong := 0
	for _, e := range events {
		switch e := e.(type) {
		case observe.Validation:
			return "It was validated at " + minuteOf(e.At) + " UTC."
		case observe.Code:
			if !e.Right {
				wrong++
			}
		case observe.Receipt:
			if _, later := receipts[e.MessageID]; !later {
				receipts[e.MessageID] = e
			}
		case observe.Refusal:
			return "The latest request, at " + minuteOf(e.At) + " UTC, was refused: " + reasonWords(e.Reason) + "."
		case observe.SMS:
			return latestSMS(e, receipts[e.MessageID], wrong)
		}
	}
	return "No request for it is known: did the person type another number, or does their client use another server?"
}

// latestSMS says what happened to the latest SMS. receipt is zero if none was received.
func latestSMS(e observe.SMS, receipt observe.Receipt, wrong int) string {
	at := " at " + minuteOf(e.At) + " UTC"
	switch e.Outcome {
	case observe.Failed:
		return "The latest SMS," + at + ", was not sent: " + e.Provider + " failed."
	case observe.Rejected:
		return "The latest SMS," + at + ", was not sent: " + e.Provider + " cannot reach this number."
	case observe.Accepted, observe.Unknown:
	}
	text := "The latest SMS was passed to " + e.Provider + at
	if e.Outcome == observe.Unknown {
		text = e.Provider + " did not respond in time to the latest SMS," + at
	}
	switch receipt.Status {
	case "":
		text += "; no delivery receipt was received"
	case "delivered":
		text += "; it was delivered to the phone"
	case "failed":
		text += "; the network did not deliver it"
	case "delayed":
		text += "; it is not delivered yet"
	default:
		text += "; whether it was delivered is not known"
	}
	switch wrong {
	case 0:
		return text + ". No code has been submitted since."
	case 1:
		return text + ". One wrong code has been submitted since."
	}
	return text + fmt.Sprintf(". %d wrong codes have been submitted since.", wrong)
}

// Blocked returns what blocks the number, in words.
func (l *lookUp) Blocked() []shownBlock {
	blocked := make([]shownBlock, 0, len(l.Found.Blocks))
	for _, b := range l.Found.Blocks {
		blocked = append(blocked, shownBlock{Block: b, Kind: blockedWords(b)})
	}
	return blocked
}

func blockedWords(b limits.Block) string {
	kind := "the number"
	switch {
	case b.Range != "":
		kind = "its range, +" + b.Range + "****,"
	case b.Country != "":
		kind = "its country"
	}
	return kind
}
