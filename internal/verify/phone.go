package verify

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nyaruka/phonenumbers"
)

// maxPhoneLength is in characters. Longer than any number is written, shorter
// than what would make the parser work.
const maxPhoneLength = 64

// Number is a phone number that libphonenumber holds possible.
type Number struct {
	// MSISDN is the number in E.164 without the plus sign. All spellings of
	// one number have the same.
	MSISDN string

	// International is the number as people write it abroad: +44 7700 900001.
	International string

	// Region is the region whose numbering plan assigns the number: two letters,
	// or "001" for the plans of no country. It is empty when none assigns it and
	// several share the calling code.
	Region string

	// Kind is what the numbering plan uses the number for.
	Kind phonenumbers.PhoneNumberType

	callingCode int
	certain     bool // it was given in E.164, so it has been read back already
}

// ParseNumber reads phoneNumber as if it were dialled from country: two
// uppercase letters, or empty when the number is international. The error is
// an *Error that names the field. Before a number is used for the first time,
// ask ReadsBack.
//
// With requireValid a number must also lie in a range that its numbering plan
// assigns; without it the right length is enough, as for 07700900001 in GB, the
// specification's own example.
func ParseNumber(phoneNumber, country string, requireValid bool) (Number, error) {
	if country != "" && !KnownRegion(country) {
		return Number{}, Errorf(InvalidParam,
			"country must be two uppercase letters that stand for a country, such as GB")
	}
	phoneNumber = unformatted(phoneNumber)
	if err := checkSpelling(phoneNumber); err != nil {
		return Number{}, err
	}
	parsed, err := phonenumbers.Parse(phoneNumber, country)
	if err != nil {
		if country == "" {
			return Number{}, Errorf(InvalidParam,
				"phone_number must be international, such as +44…, when country is empty")
		}
		return Number{}, errNotANumber(country)
	}
	if parsed.GetExtension() != "" {
		return Number{}, Errorf(InvalidParam, "phone_number must have no extension")
	}
	// A number that can be dialled only within its own area is possible to the
	// library too, but no SMS finds it.
	if phonenumbers.IsPossibleNumberWithReason(parsed) != phonenumbers.IS_POSSIBLE {
		return Number{}, errNotANumber(country)
	}
	kind := phonenumbers.GetNumberType(parsed) // a number is valid if it has one
	if requireValid && kind == phonenumbers.UNKNOWN {
		return Number{}, errNotANumber(country)
	}
	e164 := phonenumbers.Format(parsed, phonenumbers.E164)
	return Number{
		MSISDN:        strings.TrimPrefix(e164, "+"),
		International: phonenumbers.Format(parsed, phonenumbers.INTERNATIONAL),
		Region:        phonenumbers.GetRegionCodeForNumber(parsed),
		Kind:          kind,
		callingCode:   int(parsed.GetCountryCode()),
		certain:       phoneNumber == e164,
	}, nil
}

// parseE164 reads a number that the host has, such as a Validation's: in E.164, with or
// without the plus sign.
func parseE164(number string) (Number, error) {
	n, err := ParseNumber("+"+strings.TrimPrefix(number, "+"), "", false)
	if err != nil {
		return Number{}, ErrInvalidNumber
	}
	return n, nil
}

// ReadsBack reports whether parsing the number's E.164 form gives the same number. For
// a few possible numbers it does not: 000000 in CC becomes +61000000, and that becomes
// +6100000, because a 0 is taken for the trunk prefix each time. Such a number would
// have two sessions, so it is refused.
//
// ParseNumber does not include this check, which doubles its time: a retry need not
// repeat it, since no such number has a session.
func (n Number) ReadsBack() bool {
	if n.certain {
		return true
	}
	again, err := phonenumbers.Parse("+"+n.MSISDN, "")
	return err == nil && phonenumbers.Format(again, phonenumbers.E164) == "+"+n.MSISDN
}

// Home is the region of the number, or when no plan assigns it the main one of
// those that share its calling code.
func (n Number) Home() string {
	if n.Region != "" {
		return n.Region
	}
	return phonenumbers.GetRegionCodeForCountryCode(n.callingCode)
}

// KnownRegion reports whether libphonenumber knows a region by these two letters.
func KnownRegion(country string) bool {
	return len(country) == 2 && phonenumbers.GetCountryCodeForRegion(country) != 0
}

// unformatted returns phoneNumber without what comes along when a number is copied:
// Unicode format characters, such as the marks that a contact list puts around it,
// and white space at the ends. White space inside becomes a plain space and not
// nothing: the parser takes digits between a space and a '#' for an extension.
// A text that is too long stays as it is.
func unformatted(phoneNumber string) string {
	if utf8.RuneCountInString(phoneNumber) > maxPhoneLength {
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

// checkSpelling refuses what the parser would read more into than was meant:
// vanity letters, "tel:" URIs, and texts far too long.
func checkSpelling(phoneNumber string) error {
	if utf8.RuneCountInString(phoneNumber) > maxPhoneLength {
		return Errorf(InvalidParam, "phone_number must have at most %d characters", maxPhoneLength)
	}
	for _, r := range phoneNumber {
		switch {
		case unicode.IsLetter(r):
			return Errorf(InvalidParam, "phone_number must not contain letters")
		case unicode.IsControl(r):
			return Errorf(InvalidParam, "phone_number must not contain control characters")
		}
	}
	return nil
}

func errNotANumber(country string) error {
	if country == "" {
		return Errorf(InvalidParam, "phone_number is not a phone number")
	}
	return Errorf(InvalidParam, "phone_number is not a phone number that can be dialled from %s", country)
}

// Mask is a number for the log: enough to tell country and operator, not the
// person. It takes E.164 with or without the plus sign.
func Mask(msisdn string) string {
	const hidden = 4
	digits := strings.TrimPrefix(msisdn, "+")
	if len(digits) <= hidden {
		return "+****"
	}
	return "+" + digits[:len(digits)-hidden] + "****"
}
