package admin

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"example.com/threepid/limits"
	"example.com/threepid/observe"
)

// span formats a duration for a person, such as "2 min 5 s". A line does not break before a unit.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d\u00a0ms", d.Milliseconds())
	case d < time.Minute:
		return strings.TrimSuffix(strconv.FormatFloat(d.Seconds(), 'f', 1, 64), ".0") + "\u00a0s"
	case d < time.Hour:
		return units(d, time.Minute, "min", time.Second, "s")
	case d < 48*time.Hour:
		return units(d, time.Hour, "h", time.Minute, "min")
	}
	return units(d, 24*time.Hour, "d", time.Hour, "h")
}

func units(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	text := fmt.Sprintf("%d\u00a0%s", d/big, bigName)
	if rest := d % big / small; rest > 0 {
		text += fmt.Sprintf(" %d\u00a0%s", rest, smallName)
	}
	return text
}

// count writes a number with commas.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// percent writes a share.
func percent(part, of int64) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%d%%", (part*100+of/2)/of)
}

// countryName returns the English name of a country.
func countryName(code string) string {
	switch code {
	case "":
		return "not known"
	case "001":
		return "no country"
	}
	region, err := language.ParseRegion(code)
	if err != nil {
		return code
	}
	if name := display.English.Regions().Name(region); name != "" {
		return name
	}
	return code
}

// wordsOf returns an event as a sentence.
func wordsOf(e observe.Event) string {
	switch e := e.(type) {
	case observe.SMS:
		return smsWords(e)
	case observe.Refusal:
		return "Request" + forPurpose(e.Purpose) + " refused: " + reasonWords(e.Reason) + "."
	case observe.Code:
		if e.Right {
			return "Right code submitted."
		}
		return "Wrong code submitted."
	case observe.Validation:
		return "Number validated" + forPurpose(e.Purpose) + ", " + span(e.TimeToValidate) + " after the SMS."
	case observe.Receipt:
		return receiptWords(e)
	case observe.Unblock:
		return "Unblocked by an operator, together with its range."
	case observe.Number:
		return "Number " + e.Change + map[string]string{"added": " to an account.", "removed": " from its account.", "released": " from its account by an operator."}[e.Change]
	}
	return observe.Name(e)
}

func forPurpose(purpose string) string {
	switch purpose {
	case "add":
		return " (to add it to an account)"
	case "register":
		return " (to register)"
	case "password":
		return " (to reset a password)"
	case "identity":
		return " (for a homeserver)"
	}
	return ""
}

func smsWords(e observe.SMS) string {
	text := map[observe.Outcome]string{
		observe.Accepted: "SMS accepted by %s",
		observe.Rejected: "SMS not sent: %s cannot reach this number",
		observe.Failed:   "SMS not sent: %s failed",
		observe.Unknown:  "SMS possibly sent: %s did not respond in time",
	}[e.Outcome]
	text = fmt.Sprintf(text, e.Provider) + forPurpose(e.Purpose) + ", after " + span(e.Latency)
	if e.Segments > 1 {
		text += fmt.Sprintf(", billed as %d SMS", e.Segments)
	}
	return text + "."
}

func receiptWords(e observe.Receipt) string {
	text := map[string]string{
		"delivered": "Receipt from %s: delivered to the phone", "failed": "Receipt from %s: delivery failed permanently",
		"delayed": "Receipt from %s: not delivered yet; the provider is still trying", "unknown": "Receipt from %s: the provider does not know",
	}[e.Status]
	if text == "" {
		text = "Receipt from %s: " + e.Status
	}
	text = fmt.Sprintf(text, e.Provider)
	if e.Reason != "" {
		text += " (code " + e.Reason + ")"
	}
	return text + "."
}

// scopeWords names a field of limits.Limits.
func scopeWords(scope string) string {
	words := map[string]string{
		"PerNumber": "SMS to the number", "Reserve": "Reserve for the number", "FailedSends": "SMS that failed", "PerRange": "SMS to its range",
		"PerCountry": "SMS to its country", "Global": "All SMS", "WrongCodesPerNumber": "Wrong codes", "ReserveCodes": "Reserve for codes",
		"MaxWrongCodes": "Wrong codes without a right one",
	}[scope]
	if words == "" {
		return scope
	}
	return words
}

// limitWords writes a limit.
func limitWords(l limits.Limit) string {
	every := span(l.Every)
	if one := map[time.Duration]string{time.Second: "second", time.Minute: "minute", time.Hour: "hour"}[l.Every]; one != "" {
		every = one
	}
	text := fmt.Sprintf("%d at once, then one every %s", l.Burst, every)
	if l.CountValidated {
		text += ", including those that validated"
	}
	return text
}

// blockWords explains the reason of a block.
func blockWords(reason string) string {
	if reason == "" {
		return "not known"
	}
	for short, long := range map[string]string{
		"few validations":                   "few of the numbers were validated",
		"many SMS at once, few validations": "many SMS at once, and few of the numbers were validated",
		"neighbouring numbers":              "SMS to neighbouring numbers, none of which was validated",
	} {
		if rest, ok := strings.CutPrefix(reason, short); ok && (rest == "" || rest[0] == ',') {
			return long + rest
		}
	}
	return reason
}

// reasonWords explains the reason of a refusal.
func reasonWords(reason string) string {
	words := map[string]string{
		"bad input":          "the request was malformed",
		"policy":             "the policy allows no SMS to this number",
		"host":               "the host's own check refused it",
		"in use":             "the number has an account already",
		"not found":          "no account has the number",
		"another purpose":    "the client_secret was used for another purpose",
		"unknown session":    "no session has that sid and client_secret",
		"code expired":       "the code had expired, or five wrong codes had been submitted",
		"not validated":      "the number is not validated",
		"not authorized":     "the access token was missing or unknown",
		"server not trusted": "the client named an identity server",
		"guard: range":       "the guard has blocked the number's range",
		"guard: country":     "the guard has blocked the number's country",
		"guard: network":     "the guard has blocked the client's network",
	}[reason]
	if words != "" {
		return words
	}
	if scope, limit := strings.CutPrefix(reason, "limit: "); limit {
		return "the limit on " + limitedWords(scope) + " was reached"
	}
	return reason
}

// limitedWords returns what the limit with a scope limits.
func limitedWords(scope string) string {
	words := map[string]string{
		"number":            "SMS to one number",
		"number and client": "SMS to one number, requested by one client,",
		"client":            "SMS requested by one client",
		"range":             "SMS to one range of numbers",
		"range and client":  "SMS to one range, requested by one client,",
		"country":           "SMS to one country",
		"global":            "all SMS",
	}[scope]
	if words == "" {
		return scope // such as look-ups
	}
	return words
}
