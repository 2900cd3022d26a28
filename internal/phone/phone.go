// Package phone parses and classifies phone numbers.
package phone

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
)

// maxLength is in characters: longer than any number is written, and short enough to
// parse quickly.
const maxLength = 64

// Number is a phone number that libphonenumber considers possible.
type Number struct {
	// MSISDN is the number in E.164 without the plus sign. All spellings of
	// one number have the same.
	MSISDN string

	// International is the number as it is written abroad: +44 7700 900001.
	International string

	// Region is the region whose numbering plan assigns the number: two letters,
	// or "001" for the plans of no country. It is empty when none assigns it and
	// several share the calling code.
	Region string

	// Kind is what the numbering plan uses the number for. It is UNKNOWN if no plan
	// assigns the number, as for 07700900001 in GB, the specification's example.
	Kind phonenumbers.PhoneNumberType

	callingCode int
}

// Valid reports whether a numbering plan assigns the number.
func (n Number) Valid() bool { return n.Kind != phonenumbers.UNKNOWN }

// Home returns the region of the number or, if no plan assigns it, the main one of
// those that share its calling code. Of the zero value, which is no number, it returns an empty
// string.
func (n Number) Home() string {
	if n.Region != "" || n.callingCode == 0 {
		return n.Region
	}
	return phonenumbers.GetRegionCodeForCountryCode(n.callingCode)
}

// Regions returns the region of the number or, if no plan assigns it, all that share its
// calling code.
func (n Number) Regions() []string {
	if n.Region != "" {
		return []string{n.Region}
	}
	return phonenumbers.GetRegionCodesForCountryCode(n.callingCode)
}

// Parse parses phoneNumber as if it were dialled from country: two uppercase letters,
// or empty when the number is international. The error is a sentence for the client,
// and names the field.
func Parse(phoneNumber, country string) (Number, error) {
	if country != "" && !KnownRegion(country) {
		return Number{}, ErrUnknownCountry
	}
	phoneNumber = unformatted(phoneNumber)
	if err := checkSpelling(phoneNumber); err != nil {
		return Number{}, err
	}
	parsed, err := phonenumbers.Parse(phoneNumber, country)
	switch {
	case err != nil && country == "":
		return Number{}, errors.New("phone_number must be international, such as +44…, when country is empty")
	case err != nil:
		return Number{}, ErrNotANumber(country)
	case parsed.GetExtension() != "":
		return Number{}, errors.New("phone_number must have no extension")
	// A number that can be dialled only within its own area is possible to the library,
	// but no SMS reaches it.
	case phonenumbers.IsPossibleNumberWithReason(parsed) != phonenumbers.IS_POSSIBLE:
		return Number{}, ErrNotANumber(country)
	}
	e164 := phonenumbers.Format(parsed, phonenumbers.E164)
	if phoneNumber != e164 && !readsBack(e164) {
		return Number{}, ErrNotANumber(country)
	}
	return Number{
		MSISDN:        strings.TrimPrefix(e164, "+"),
		International: phonenumbers.Format(parsed, phonenumbers.INTERNATIONAL),
		Region:        phonenumbers.GetRegionCodeForNumber(parsed),
		Kind:          phonenumbers.GetNumberType(parsed),
		callingCode:   int(parsed.GetCountryCode()),
	}, nil
}

// ErrUnknownCountry means that the country, and not the number, is invalid.
var ErrUnknownCountry = errors.New("country must be two uppercase letters that stand for a country, such as GB")

// ErrInvalid means that a string is not a phone number in E.164.
var ErrInvalid = errors.New("threepid: not a phone number in E.164, such as +447700900001 or 447700900001")

// ParseE164 parses a number that the host has: in E.164, with or without the plus sign.
func ParseE164(number string) (Number, error) {
	n, err := Parse("+"+strings.TrimPrefix(number, "+"), "")
	if err != nil {
		return Number{}, ErrInvalid
	}
	return n, nil
}

// readsBack reports whether parsing a number's E.164 form gives the same number. For a
// few possible numbers it does not: 000000 in CC becomes +61000000, and that becomes
// +6100000, because a 0 is taken for the trunk prefix each time. Such a number would
// have two sessions.
func readsBack(e164 string) bool {
	again, err := phonenumbers.Parse(e164, "")
	return err == nil && phonenumbers.Format(again, phonenumbers.E164) == e164
}

// KnownRegion reports whether libphonenumber knows a region by these two letters.
func KnownRegion(country string) bool {
	return len(country) == 2 && phonenumbers.GetCountryCodeForRegion(country) != 0
}

// unformatted returns phoneNumber without what is copied along with a number: Unicode
// format characters, such as the marks that a contact list puts around it, and white
// space at the ends. White space inside becomes a plain space instead of nothing: the
// parser takes digits between a space and a '#' for an extension. A text that is too
// long is returned as it is.
func unformatted(phoneNumber string) string {
	if utf8.RuneCountInString(phoneNumber) > maxLength {
		return phoneNumber
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Cf, r):
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, phoneNumber))
}

// checkSpelling refuses what the parser would read more into than was meant: vanity
// letters, "tel:" URIs, and texts that are far too long.
func checkSpelling(phoneNumber string) error {
	if utf8.RuneCountInString(phoneNumber) > maxLength {
		return fmt.Errorf("phone_number must have at most %d characters", maxLength)
	}
	for _, r := range phoneNumber {
		switch {
		case unicode.IsLetter(r):
			return errors.New("phone_number must not contain letters")
		case unicode.IsControl(r):
			return errors.New("phone_number must not contain control characters")
		}
	}
	return nil
}

// ErrNotANumber returns the error for a phone number that cannot be dialled from country.
func ErrNotANumber(country string) error {
	if country == "" {
		return errors.New("phone_number is not a phone number")
	}
	return fmt.Errorf("phone_number is not a phone number that can be dialled from %s", country)
}

// Mask returns a number for the log: enough to see the country and the operator, but not
// the person. It accepts E.164 with or without the plus sign.
func Mask(msisdn string) string {
	const hidden = 4
	digits := strings.TrimPrefix(msisdn, "+")
	if len(digits) <= hidden {
		return "+****"
	}
	return "+" + digits[:len(digits)-hidden] + "****"
}
