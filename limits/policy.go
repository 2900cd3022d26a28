package limits

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/threepid/internal/phone"
	"example.com/threepid/store"
)

// ErrDenied is the error with which Policy.Approve refuses an SMS. It may be wrapped.
var ErrDenied = errors.New("threepid: denied by the host")

// Policy defines which numbers may receive SMS. A request for any other number
// gets 403 M_THREEPID_DENIED.
type Policy struct {
	// AllowCountries are the only countries whose numbers may receive SMS. Each is two uppercase
	// letters, or "001" for numbers that belong to no country, such as those of satellite phones.
	// The number's own country decides, not the country that the client says it was dialled from. A
	// number that no numbering plan assigns belongs to the main country of its calling code. Set
	// this field: most servers have users in a few countries, and attackers pump SMS to all others.
	// Defaults to all countries except "001".
	AllowCountries []string

	// DenyCountries are countries whose numbers receive no SMS. A number that no
	// numbering plan assigns belongs to all countries of its calling code. Defaults to none.
	DenyCountries []string

	// DenyPrefixes are the first digits of numbers that receive no SMS, such as
	// "+4470". Defaults to none.
	DenyPrefixes []string

	// RequireValidNumbers refuses numbers that have a possible length but that no
	// numbering plan assigns, with 400 M_INVALID_PARAM. Defaults to false.
	RequireValidNumbers bool

	// RefuseFixedLines refuses numbers that are certainly not mobile. Defaults to false.
	RefuseFixedLines bool

	// AllowServiceNumbers allows premium rate, shared cost, toll-free, pager, voicemail,
	// company (UAN) and personal numbers, such as +44 70. Calls and SMS to most of them
	// cost more. Defaults to false.
	AllowServiceNumbers bool

	// TestNumbers are numbers that receive no SMS and whose code never changes. Defaults
	// to none.
	TestNumbers []TestNumber

	// Approve is called before an SMS is sent, after the limits have allowed it. A host can
	// use it to require a CAPTCHA or to check its own list. If the error is nil, the request
	// continues. An error that wraps ErrDenied refuses the request; any other error is logged,
	// and the client gets 500.
	//
	// Approve is called once for each send_attempt, so a CAPTCHA token that works once is
	// enough. It is not called again when a client retries an attempt that was sent, or one
	// that was approved and then failed. Identical requests that arrive at one node together
	// share one call. The context ends after ten seconds, when
	// the client disconnects, or when the plugin is closed.
	//
	// If Approve returns Trusted, for example for a solved CAPTCHA or a paying customer, the
	// SMS is sent even if the guard blocks it. The limits still apply. Defaults to approving
	// all requests.
	Approve func(context.Context, ApprovalRequest) (Approval, error)
}

// Approval is the result of Policy.Approve.
type Approval int

// The approvals.
const (
	Approved Approval = iota // send the SMS unless the guard blocks it
	Trusted                  // send the SMS even if the guard blocks it
)

// ApprovalRequest describes the SMS that Policy.Approve approves or refuses.
type ApprovalRequest struct {
	Purpose store.Purpose
	MSISDN  string      // E.164 without the plus sign
	Country string      // of the number: two letters, or "001"
	Client  string      // an IP address, or what Options.ClientKey returned
	Header  http.Header // of the request

	// Blocks are the blocks of the guard that apply to the SMS. If there are any, the SMS
	// is sent only if Approve returns Trusted, or if Guard.DryRun is set.
	Blocks []Block
}

// TestNumber is a number that receives no SMS and whose code never changes, for app
// reviewers and for tests of a running server. The limits on SMS and the Policy do not
// apply to it. The limits on wrong codes do, and so does Limits.LookUps, which bounds
// a client's new sessions. Anybody who knows the code can validate the number, so it
// must not belong to an account that matters.
type TestNumber struct {
	Number string    // E.164, such as "+447700900001"
	Code   string    // Options.TokenDigits digits
	Until  time.Time // when it becomes an ordinary number; zero means never
}

// Clone returns a copy that shares no slice with p.
func (p Policy) Clone() Policy {
	p.AllowCountries = slices.Clone(p.AllowCountries)
	p.DenyCountries = slices.Clone(p.DenyCountries)
	p.DenyPrefixes = slices.Clone(p.DenyPrefixes)
	p.TestNumbers = slices.Clone(p.TestNumbers)
	return p
}

// Validate returns an error that names each invalid field. codeDigits is the length of
// a code.
func (p Policy) Validate(codeDigits int) error {
	errs := []error{
		validateCountries("AllowCountries", p.AllowCountries),
		validateCountries("DenyCountries", p.DenyCountries),
	}
	for _, prefix := range p.DenyPrefixes {
		if !isPrefix(prefix) {
			errs = append(errs, fmt.Errorf("Policy.DenyPrefixes: %q is not the start of a number; use a plus sign and digits, such as +4470", prefix))
		}
	}
	return errors.Join(append(errs, validateTestNumbers(p.TestNumbers, codeDigits))...)
}

func validateCountries(field string, countries []string) error {
	var errs []error
	for _, country := range countries {
		if !isCountry(country) {
			errs = append(errs, fmt.Errorf("Policy.%s: %q is not a country; use two uppercase letters, such as GB, or 001", field, country)) //nolint:staticcheck // the name of a field
		}
	}
	return errors.Join(errs...)
}

func validateTestNumbers(numbers []TestNumber, codeDigits int) error {
	var errs []error
	seen := make(map[string]bool)
	for _, n := range numbers {
		parsed, err := phone.Parse(n.Number, "")
		if err != nil || "+"+parsed.MSISDN != n.Number {
			errs = append(errs, fmt.Errorf("Policy.TestNumbers: %q is not a number in E.164, such as +447700900001", n.Number))
		}
		if len(n.Code) != codeDigits || strings.Trim(n.Code, "0123456789") != "" {
			errs = append(errs, fmt.Errorf("Policy.TestNumbers: the code of %s must have %d digits", n.Number, codeDigits))
		}
		if seen[n.Number] {
			errs = append(errs, fmt.Errorf("Policy.TestNumbers: %s is duplicated", n.Number))
		}
		seen[n.Number] = true
	}
	return errors.Join(errs...)
}
