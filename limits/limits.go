// Package limits has the rate limits and the guard of threepid as a host sets them.
// The engine works with the same types.
package limits

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limit allows Burst at once and then one in each Every: in any span of time, no
// more than Burst and one for each Every that fits into the span (the generic cell
// rate algorithm).
type Limit struct {
	Burst int           // 1 or more
	Every time.Duration // 1 second or more

	// CountValidated keeps an SMS counted after its number validated. Defaults to
	// false: a validation gives the SMS back, so that a limit counts only SMS
	// that nobody has confirmed.
	CountValidated bool
}

// Limits bound the SMS that are sent, and the wrong codes that are compared. They are
// kept in the store: all nodes share them, and they survive restarts. All nodes
// should have the same. An SMS counts in every scope. When one limit of a scope
// is reached, the response is 429.
//
// A scope that is nil has the default. One that is empty, not nil, has no limit. A
// scope has eight limits at most.
type Limits struct {
	// Disabled switches all limits off.
	Disabled bool

	// PerNumber limits the SMS to one number. Defaults to 6 at once, then one in 10
	// minutes, of which 8 and then one in 6 hours, so 12 on the first day; and 24
	// and then one an hour that count although they validated.
	PerNumber []Limit

	// Reserve limits the SMS to one number beyond those limits of PerNumber whose
	// Every is an hour or more. A client that took none from the reserve for a week
	// gets one when they refuse it, so that a few clients that never give up do not
	// keep the number's owner from receiving a code.
	// Defaults to 12, then one in 12 hours. Empty: there is no reserve.
	Reserve []Limit

	// PerNumberAndClient limits those that one client asks for. It must be tighter
	// than PerNumber, or one client can use up a victim's number.
	// Defaults to 4, then one in 10 minutes, of which 6 and then one in 8 hours.
	PerNumberAndClient []Limit

	// PerClient limits all SMS that one client asks for: an IPv4 address, the /64 of
	// an IPv6 address, or what Options.ClientKey returns. Defaults to 20, then one a
	// minute, of which 50 and then one in 20 minutes.
	PerClient []Limit

	// PerRangeAndClient limits those that one client asks for to one range: all
	// numbers that differ in their last four digits only. It must be tighter
	// than PerRange. Defaults to 10, then one in 10 minutes; and 300 and then one in 20
	// seconds that count although they validated.
	PerRangeAndClient []Limit

	// PerRange limits the SMS to one range. Defaults to 20, then one in 5 minutes; and
	// 600 and then one in 10 seconds that count although they validated.
	PerRange []Limit

	// PerCountry limits the SMS to the numbers of one country, and Global limits
	// all SMS. Nodes lease parts of them for 45 seconds or, if SendTimeout is not 10
	// seconds, three times as long as SendTimeout and 5 seconds. So a twentieth of Burst
	// more may be sent, or one SMS for each node, whichever is more; one node alone is
	// exact. A unit of work of its own leases Burst/20/nodes SMS. Defaults to none.
	PerCountry, Global []Limit

	// LookUps limits the requests of one client for which it is looked up whether the
	// number has an account, whatever the response: a client that may ask often learns
	// which numbers have one. Each node counts for itself, in memory. A retry of an
	// attempt that was sent is never refused.
	// Defaults to 60, then one in 10 seconds, of which 600 and then one a minute.
	LookUps []Limit

	// FailedSends limits the SMS that one client asked for and that were not sent,
	// and, for one client and for one number, further tries of SMS that may have
	// been sent; with a Delegate also codes that it did not check. They cost nothing
	// in the scopes above, but each is a call to the provider.
	// Defaults to 20, then one a minute.
	FailedSends []Limit

	// WrongCodesPerNumber limits the wrong codes for one number, whichever session
	// they are for; the right one clears them. Defaults to 40, then one in 30 minutes.
	WrongCodesPerNumber []Limit

	// ReserveCodes limits the codes for one number that are compared although
	// WrongCodesPerNumber or MaxWrongCodes refuse them, each the first that is typed
	// for a code that was sent. Defaults to 24, then one in 4 hours. Empty: none.
	ReserveCodes []Limit

	// WrongCodesPerNumberAndClient limits those that one client submits for one
	// number. It must be tighter than WrongCodesPerNumber and MaxWrongCodes, or one
	// client can lock a victim's number. Defaults to 15, then one in 12 hours.
	WrongCodesPerNumberAndClient []Limit

	// WrongCodesPerClient limits the wrong codes of one client, for any number.
	// Defaults to 30, then one a minute.
	WrongCodesPerClient []Limit

	// MaxWrongCodes is how many wrong codes of one number are compared without a right
	// one in between: NIST SP 800-63B allows 100. They are forgotten 30 days
	// after the latest. Defaults to 100.
	MaxWrongCodes int
}

const (
	// maxMemory and maxPerScope bound what is remembered.
	maxMemory   = 366 * 24 * time.Hour
	maxPerScope = 8

	maxWrongCodes = 100
)

// scope is one list of limits, by name.
type scope struct {
	name     string
	limits   *[]Limit
	defaults []Limit
}

func (l *Limits) scopes() []scope {
	const second, minute, hour = time.Second, time.Minute, time.Hour
	return []scope{
		{"PerNumber", &l.PerNumber, []Limit{{Burst: 6, Every: 10 * minute}, {Burst: 8, Every: 6 * hour}, {Burst: 24, Every: hour, CountValidated: true}}},
		{"Reserve", &l.Reserve, []Limit{{Burst: 12, Every: 12 * hour}}},
		{"PerNumberAndClient", &l.PerNumberAndClient, []Limit{{Burst: 4, Every: 10 * minute}, {Burst: 6, Every: 8 * hour}}},
		{"PerClient", &l.PerClient, []Limit{{Burst: 20, Every: minute}, {Burst: 50, Every: 20 * minute}}},
		{"PerRangeAndClient", &l.PerRangeAndClient, []Limit{{Burst: 10, Every: 10 * minute}, {Burst: 300, Every: 20 * second, CountValidated: true}}},
		{"PerRange", &l.PerRange, []Limit{{Burst: 20, Every: 5 * minute}, {Burst: 600, Every: 10 * second, CountValidated: true}}},
		{"PerCountry", &l.PerCountry, nil},
		{"Global", &l.Global, nil},
		{"LookUps", &l.LookUps, []Limit{{Burst: 60, Every: 10 * second}, {Burst: 600, Every: minute}}},
		{"FailedSends", &l.FailedSends, []Limit{{Burst: 20, Every: minute}}},
		{"WrongCodesPerNumber", &l.WrongCodesPerNumber, []Limit{{Burst: 40, Every: 30 * minute}}},
		{"ReserveCodes", &l.ReserveCodes, []Limit{{Burst: 24, Every: 4 * hour}}},
		{"WrongCodesPerNumberAndClient", &l.WrongCodesPerNumberAndClient, []Limit{{Burst: 15, Every: 12 * hour}}},
		{"WrongCodesPerClient", &l.WrongCodesPerClient, []Limit{{Burst: 30, Every: minute}}},
	}
}

// WithDefaults returns a copy with the defaults in place of what is nil or zero. If
// l is disabled, all scopes are empty.
func (l Limits) WithDefaults() Limits {
	if l.Disabled {
		return Limits{Disabled: true}
	}
	for _, s := range l.scopes() {
		if *s.limits == nil {
			*s.limits = s.defaults
		} else {
			*s.limits = slices.Clone(*s.limits)
		}
	}
	if l.MaxWrongCodes == 0 {
		l.MaxWrongCodes = maxWrongCodes
	}
	return l
}

// Validate returns an error that names each field that makes no sense.
func (l Limits) Validate() error {
	var errs []error
	for _, s := range l.scopes() {
		if len(*s.limits) > maxPerScope {
			errs = append(errs, fmt.Errorf("Limits.%s has %d limits; at most %d are kept", s.name, len(*s.limits), maxPerScope)) //nolint:staticcheck // the name of a field
		}
		for _, limit := range *s.limits {
			if limit.Burst < 1 || limit.Every < time.Second || limit.Every > maxMemory/time.Duration(limit.Burst) {
				errs = append(errs, fmt.Errorf( //nolint:staticcheck // the name of a field
					"Limits.%s: %d and then one in each %v makes no limit; Burst must be 1 or more, Every a second or more, and both together a year at most",
					s.name, limit.Burst, limit.Every))
			}
		}
	}
	if l.MaxWrongCodes < 0 {
		errs = append(errs, errors.New("Limits.MaxWrongCodes must not be negative"))
	}
	return errors.Join(errs...)
}
