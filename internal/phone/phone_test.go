package phone_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"

	"example.com/threepid/internal/phone"
)

var digits = regexp.MustCompile(`^[1-9][0-9]{3,19}$`)

// FuzzParse checks that an accepted number is the same in each of its spellings.
func FuzzParse(f *testing.F) {
	for _, seed := range [][2]string{
		{"07700900001", "GB"},
		{"+44 7700 900001", ""},
		{"06 1234 5678", "IT"},
		{"(201) 555-0123", "US"},
		{"+80012345678", "GB"},
		{"1-800-FLOWERS", "US"},
		{"٠٧٧٠٠٩٠٠٠٠١", "GB"},
		{"07700900001;ext=1", "GB"},
		{"+", ""},
		{"\x00", "GB"},
		{"12", "ZZ"},
		{"+54 9 11 2345 6789", "AR"},
		{"8 (912) 345-67-89", "RU"},
		{"\u202a+44 7400 123464\u202c", ""},
		{"\t07700\u00a0900\u2060001", "GB"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, phoneNumber, country string) {
		n, err := phone.Parse(phoneNumber, country)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "phone_number ") && !strings.HasPrefix(err.Error(), "country ") {
				t.Errorf("the error names no field: %v", err)
			}
			return
		}
		if !digits.MatchString(n.MSISDN) {
			t.Fatalf("MSISDN %q of %q in %q", n.MSISDN, phoneNumber, country)
		}
		spellings := []string{"+" + n.MSISDN, n.International}
		if utf8.RuneCountInString(phoneNumber) < 60 { // leave room for characters that copying adds
			spellings = append(spellings, "\u202a"+phoneNumber+"\u202c", "\t"+phoneNumber+"\u00a0")
		}
		for _, spelling := range spellings {
			again, err := phone.Parse(spelling, country)
			if err != nil || again.MSISDN != n.MSISDN {
				t.Errorf("%q in %q is %s, but spelled %q it is %s, %v", phoneNumber, country, n.MSISDN, spelling, again.MSISDN, err)
			}
		}
		if masked := phone.Mask(n.MSISDN); strings.Contains(masked, n.MSISDN) {
			t.Errorf("masked %s", masked)
		}
	})
}

// TestCopiedNumbers parses numbers with the invisible characters that contact lists, web pages and
// office programs add.
func TestCopiedNumbers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ phoneNumber, country, want string }{
		{"\u202a+44 7400 123464\u202c", "", "447400123464"}, // iOS contacts
		{"\u2068+44 7400 123464\u2069", "GB", "447400123464"},
		{"\u200e07400 123464\u200f", "GB", "447400123464"},
		{"\ufeff+44\u00a07400\u202f123464", "", "447400123464"},
		{"\t07400 123464\r\n", "GB", "447400123464"},
		{"07400\u2003123464", "GB", "447400123464"},
		{"074\u00ad00123464", "GB", "447400123464"}, // a soft hyphen
	} {
		n, err := phone.Parse(row.phoneNumber, row.country)
		if err != nil || n.MSISDN != row.want || !n.Valid() {
			t.Errorf("%q: %q, %v, want %s", row.phoneNumber, n.MSISDN, err, row.want)
		}
	}
	for phoneNumber, says := range map[string]string{
		"07400\x00123464":            "control characters",
		"0740\x1b0123464":            "control characters",
		"0740O123464":                "letters",
		"\u202a\u202c \t":            "not a phone number",
		"07400 123464 \u00a012#":     "extension",
		strings.Repeat("\u200e", 65): "characters",
	} {
		if _, err := phone.Parse(phoneNumber, "GB"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want an error that says %q", phoneNumber, err, says)
		}
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]string{
		"447700900001": "+44770090****", "+447700900001": "+44770090****", "1234": "+****", "": "+****",
	} {
		if got := phone.Mask(number); got != want {
			t.Errorf("Mask(%q) = %q, want %q", number, got, want)
		}
	}
}

func TestRegion(t *testing.T) {
	t.Parallel()
	for _, row := range [][3]string{
		{"07400123456", "GB", "GB"},
		{"07797712345", "GB", "JE"}, // another island with the same calling code
		{"+12423591234", "US", "BS"},
		{"+447700900001", "US", "GB"}, // not assigned: the main country of the calling code
		{"+80012345678", "GB", "001"},
	} {
		n, err := phone.Parse(row[0], row[1])
		if err != nil {
			t.Fatal(row, err)
		}
		if got := n.Home(); got != row[2] {
			t.Errorf("%s from %s is of %s, want %s", row[0], row[1], got, row[2])
		}
	}
}

// TestEveryRegionsNumbers checks that the example numbers of every region and kind are accepted, in
// international and national format.
func TestEveryRegionsNumbers(t *testing.T) {
	t.Parallel()
	kinds := []phonenumbers.PhoneNumberType{phonenumbers.MOBILE, phonenumbers.FIXED_LINE, phonenumbers.TOLL_FREE, phonenumbers.VOIP}
	tried := 0
	for region := range phonenumbers.GetSupportedRegions() {
		for _, kind := range kinds {
			example := phonenumbers.GetExampleNumberForType(region, kind)
			if example == nil {
				continue
			}
			want := strings.TrimPrefix(phonenumbers.Format(example, phonenumbers.E164), "+")
			for _, format := range []phonenumbers.PhoneNumberFormat{phonenumbers.E164, phonenumbers.INTERNATIONAL, phonenumbers.NATIONAL} {
				spelled := phonenumbers.Format(example, format)
				if read, err := phonenumbers.Parse(spelled, region); err != nil || phonenumbers.Format(read, phonenumbers.E164) != "+"+want {
					continue // the library does not parse its own format, such as one of Argentina's
				}
				tried++
				if n, err := phone.Parse(spelled, region); err != nil || n.MSISDN != want || !n.Valid() {
					t.Errorf("%q in %s: %q, %v, want %s", spelled, region, n.MSISDN, err, want)
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("only %d numbers tried", tried)
	}
}
