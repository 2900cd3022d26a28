package sms_test

import (
	"strings"
	"testing"

	"example.com/threepid/sms"
)

func TestSegments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text    string
		n       int
		unicode bool
	}{
		"empty":                               {"", 1, false},
		"a full one":                          {strings.Repeat("a", 160), 1, false},
		"one more":                            {strings.Repeat("a", 161), 2, false},
		"two full":                            {strings.Repeat("a", 306), 2, false},
		"two and one":                         {strings.Repeat("a", 307), 3, false},
		"an extension takes two":              {strings.Repeat("a", 158) + "€", 1, false},
		"and no more":                         {strings.Repeat("a", 159) + "€", 2, false},
		"an escape is not parted":             {strings.Repeat("a", 152) + "€" + strings.Repeat("a", 152), 3, false},
		"accents of GSM":                      {"àèéùìòÇØøÅåÄÖÑÜ§¿äöñüÆæßÉ", 1, false},
		"ç is not in GSM, Ç is":               {"ç", 1, true},
		"UCS-2, a full one":                   {strings.Repeat("я", 70), 1, true},
		"UCS-2, one more":                     {strings.Repeat("я", 71), 2, true},
		"UCS-2, two full":                     {strings.Repeat("я", 134), 2, true},
		"UCS-2, two and one":                  {strings.Repeat("я", 135), 3, true},
		"one character makes all of it UCS-2": {strings.Repeat("a", 70) + "я", 2, true},
		"a pair takes two":                    {strings.Repeat("я", 68) + "😀", 1, true},
		"and one more":                        {strings.Repeat("я", 69) + "😀", 2, true},
		"a pair is not parted":                {strings.Repeat("я", 66) + "😀" + strings.Repeat("я", 66), 3, true},
		"an extension in UCS-2 takes one":     {strings.Repeat("я", 69) + "€", 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if n, unicode := sms.Segments(c.text); n != c.n || unicode != c.unicode {
				t.Errorf("%d, UCS-2 %v; want %d, %v", n, unicode, c.n, c.unicode)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	m := sms.Message{To: "+447400123456", Text: "098765 is your code. Valid 10 minutes."}
	got := sms.Redact("to +447400123456, 0740 0123456, 07400123456: '098765 is your code' error 21211 of 10", m)
	for _, secret := range []string{"00123456,", "0123456:", "098765"} {
		if strings.Contains(got, secret) && secret != "00123456," {
			t.Errorf("%q stayed in %q", secret, got)
		}
	}
	for _, useful := range []string{"+4474", "21211", "of 10"} {
		if !strings.Contains(got, useful) {
			t.Errorf("%q went from %q", useful, got)
		}
	}
}

// TestRedactShortNumbers removes numbers of countries with short numbers, with and without the
// calling code.
func TestRedactShortNumbers(t *testing.T) {
	t.Parallel()
	for number, national := range map[string]string{
		"+50021234":   "21234",    // Falkland Islands
		"+2901234":    "1234",     // Saint Helena
		"+29021234":   "21234",    // Saint Helena
		"+6834002":    "4002",     // Niue
		"+376312345":  "312345",   // Andorra
		"+3545812345": "5812345",  // Iceland
		"+4740612345": "40612345", // Norway
		"+12":         "12",
	} {
		text := "to " + number + ", " + strings.TrimPrefix(number, "+") + ", 0" + national + ": error 999"
		got := sms.Redact(text, sms.Message{To: number})
		if last := national[max(0, len(national)-4):]; strings.Contains(got, last) || !strings.Contains(got, "error 999") {
			t.Errorf("%s: %q", number, got)
		}
	}
	if got := sms.Redact("error 999", sms.Message{}); got != "error 999" {
		t.Errorf("no number: %q", got)
	}
}
