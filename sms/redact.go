package sms

import "strings"

// Redact removes from a text, such as a provider's error, the parts of the message that must
// not be logged: the number, also if only its last digits are there, which identify a
// subscriber however the prefix is written, and each run of four or more digits in the
// message's text, one of which is the code.
func Redact(text string, m Message) string {
	const (
		token       = 4 // digits, and more
		callingCode = 3 // digits, or fewer
		minHidden   = 4
		maxHidden   = 8
	)
	for run := range strings.FieldsFuncSeq(m.Text, func(r rune) bool { return r < '0' || r > '9' }) {
		if len(run) >= token {
			text = strings.ReplaceAll(text, run, strings.Repeat("*", len(run)))
		}
	}
	digits := strings.TrimPrefix(m.To, "+")
	hidden := min(maxHidden, max(minHidden, len(digits)-callingCode), len(digits))
	if hidden == 0 {
		return text
	}
	head, tail := digits[:len(digits)-hidden], digits[len(digits)-hidden:]
	stars := strings.Repeat("*", hidden)
	text = strings.ReplaceAll(text, digits, head+stars)
	return strings.ReplaceAll(text, tail, stars)
}
