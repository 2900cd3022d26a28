package sms

import "strings"

// Redact takes out of a text, such as an error that a provider gave, what of
// the message belongs in no log: the number, in whole or its last eight digits,
// which tell a subscriber however the prefix is written, and each longer run of
// digits in the message's text, of which one is the token.
func Redact(text string, m Message) string {
	const national, token = 8, 4
	digits := strings.TrimPrefix(m.To, "+")
	for run := range strings.FieldsFuncSeq(m.Text, func(r rune) bool { return r < '0' || r > '9' }) {
		if len(run) >= token {
			text = strings.ReplaceAll(text, run, strings.Repeat("*", len(run)))
		}
	}
	if len(digits) <= national {
		return text
	}
	head, tail := digits[:len(digits)-national], digits[len(digits)-national:]
	text = strings.ReplaceAll(text, digits, head+strings.Repeat("*", national))
	return strings.ReplaceAll(text, tail, strings.Repeat("*", national))
}
