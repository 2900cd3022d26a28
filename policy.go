package threepid

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nyaruka/phonenumbers"

	"example.com/threepid/internal/phone"
	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// ErrDenied is what Policy.Approve refuses a request with; it may be wrapped.
var ErrDenied = verify.ErrDenied

// Policy says which numbers are texted at all. Requests for others are answered
// 403 M_THREEPID_DENIED.
type Policy struct {
	// AllowCountries are the countries whose numbers are texted, as two
	// uppercase letters, or "001" for the numbers of no country, such as those
	// of satellites. What counts is where the number belongs, not where the
	// client says that it was dialled from; a number in no assigned range counts
	// for the main country of its calling code. Set it: most servers have users
	// in a few countries, and pumping is done in the others.
	// Default: all countries, but not "001".
	AllowCountries []string

	// DenyCountries are countries whose numbers are not texted. A number in no
	// assigned range counts for all countries of its calling code.
	// Default: none.
	DenyCountries []string

	// DenyPrefixes are beginnings of numbers that are not texted, such as
	// "+4470". Default: none.
	DenyPrefixes []string

	// RefuseFixedLines refuses numbers that are certainly no mobile ones.
	// Default: they are texted.
	RefuseFixedLines bool

	// AllowServiceNumbers texts also premium rate, shared cost and toll-free
	// numbers, pagers, voicemail, company (UAN) and personal numbers, which are
	// forwarded at a price: +44 70 for one. Default: refused.
	AllowServiceNumbers bool

	// Approve is asked about each new attempt, after the limits and before the SMS,
	// for a CAPTCHA or a list of the host's own. nil lets the request go on; an error
	// that wraps ErrDenied refuses it; any other fails it with 500 and is logged.
	//
	// It is asked once for each attempt, so that a CAPTCHA's token may be good for one
	// use: not for a retry of an attempt that was sent, nor for another try of one that
	// was approved and failed, and once for identical requests that arrive together at
	// one node. The context ends after ten seconds, with the caller, or when the plugin
	// is closed. Defaults to approving of all.
	//
	// Returning Trusted, for a solved CAPTCHA or a paying customer, has the SMS sent
	// although the guard blocks it. Limits apply all the same.
	Approve func(context.Context, ApprovalRequest) (Approval, error)
}

// Approval is how far a host approves of an SMS.
type Approval = verify.Approval

// The approvals.
const (
	Approved = verify.Approved // it is sent unless the guard blocks it
	Trusted  = verify.Trusted  // it is sent although the guard blocks it
)

// ApprovalRequest is what is known of a request when Policy.Approve is asked.
type ApprovalRequest struct {
	Purpose store.Purpose
	MSISDN  string // E.164 without the plus sign
	Country string // of the number; two letters, or "001"
	Client  string // an IP address, or what Options.Client says
	Header  http.Header

	// Blocks is what the guard blocks: the number's range or country, or the client's
	// network. If there is any, the SMS is sent only if Approve returns Trusted, or if
	// Guard.DryRun is set.
	Blocks []limits.Block
}

// TestNumber is a number that is never texted and whose code is always the
// same: for the review of an app, and for tests against a running server. The limits
// on SMS, Policy and RequireValidNumbers do not apply to it; those on wrong codes and
// Limits.LookUps, which bounds a client's new sessions, do. Whoever knows the code can
// validate the number: let no account that matters have it.
type TestNumber struct {
	Number string    // in E.164, such as "+447700900001"
	Code   string    // Options.TokenDigits digits
	Until  time.Time // from then on it is a number like any other; zero: never
}

func (p Policy) clone() Policy {
	p.AllowCountries = slices.Clone(p.AllowCountries)
	p.DenyCountries = slices.Clone(p.DenyCountries)
	p.DenyPrefixes = slices.Clone(p.DenyPrefixes)
	return p
}

func (p Policy) check() error {
	var errs []error
	for name, countries := range map[string][]string{"AllowCountries": p.AllowCountries, "DenyCountries": p.DenyCountries} {
		for _, country := range countries {
			if !isCountry(country) {
				errs = append(errs, fmt.Errorf("threepid: Options.Policy.%s: %q is no country; give two uppercase letters, such as GB, or 001", name, country))
			}
		}
	}
	for _, prefix := range p.DenyPrefixes {
		if !isPrefix(prefix) {
			errs = append(errs, fmt.Errorf("threepid: Options.Policy.DenyPrefixes: %q is not the beginning of a number; give plus sign and digits, such as +4470", prefix))
		}
	}
	return errors.Join(errs...)
}

// rules are the policy as the domain has it.
func (p Policy) rules() verify.Policy {
	rules := verify.Policy{AllowCountries: p.AllowCountries, DenyCountries: p.DenyCountries, DenyPrefixes: digits(p.DenyPrefixes)}
	if !p.AllowServiceNumbers {
		rules.RefuseKinds = []phonenumbers.PhoneNumberType{
			phonenumbers.PREMIUM_RATE, phonenumbers.SHARED_COST, phonenumbers.TOLL_FREE,
			phonenumbers.PAGER, phonenumbers.VOICEMAIL, phonenumbers.UAN, phonenumbers.PERSONAL_NUMBER,
		}
	}
	if p.RefuseFixedLines {
		rules.RefuseKinds = append(rules.RefuseKinds, phonenumbers.FIXED_LINE)
	}
	if p.Approve != nil {
		rules.Approve = func(ctx context.Context, r verify.ApprovalRequest) (Approval, error) {
			return p.Approve(ctx, ApprovalRequest{
				Purpose: r.Purpose, MSISDN: r.MSISDN, Country: r.Country, Client: r.Client, Header: r.Header, Blocks: r.Blocks,
			})
		}
	}
	return rules
}

func checkTestNumbers(numbers []TestNumber, digits int) error {
	var errs []error
	seen := make(map[string]bool)
	for _, n := range numbers {
		parsed, err := phone.Parse(n.Number, "")
		if err != nil || "+"+parsed.MSISDN != n.Number {
			errs = append(errs, fmt.Errorf("threepid: Options.TestNumbers: %q is no number in E.164, such as +447700900001", n.Number))
		}
		if len(n.Code) != digits || strings.Trim(n.Code, "0123456789") != "" {
			errs = append(errs, fmt.Errorf("threepid: Options.TestNumbers: the code of %s must have %d digits", n.Number, digits))
		}
		if seen[n.Number] {
			errs = append(errs, fmt.Errorf("threepid: Options.TestNumbers: %s stands twice", n.Number))
		}
		seen[n.Number] = true
	}
	return errors.Join(errs...)
}

// testNumberRules are the test numbers as the domain has them.
func testNumberRules(numbers []TestNumber) map[string]verify.TestNumber {
	rules := make(map[string]verify.TestNumber, len(numbers))
	for _, n := range numbers {
		rules[strings.TrimPrefix(n.Number, "+")] = verify.TestNumber{Token: n.Code, Until: n.Until}
	}
	return rules
}

// isCountry tells whether s is a region that libphonenumber knows.
func isCountry(s string) bool { return s == "001" || phone.KnownRegion(s) }

// isPrefix tells whether s is the beginning of a number in E.164.
func isPrefix(s string) bool {
	rest, plus := strings.CutPrefix(s, "+")
	return plus && rest != "" && strings.Trim(rest, "0123456789") == ""
}

// digits is the list without plus signs.
func digits(list []string) []string {
	var all []string
	for _, s := range list {
		all = append(all, strings.TrimPrefix(s, "+"))
	}
	return all
}
