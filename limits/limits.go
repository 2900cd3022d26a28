// Package limits defines the rate limits, the guard against SMS pumping and the policy, which a
// host sets in threepid.Options. Zero values have safe defaults.
package limits

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Limit allows Burst at once, and then one more in each period of length Every: in any span of
// time, it allows at most Burst plus one for each Every that fits into the span. (This is the
// generic cell rate algorithm.)
type Limit struct {
	Burst int           `json:"burst"` // 1 or more
	Every time.Duration `json:"every"` // 1 second or more

	// CountValidated makes the limit count an SMS even after its number is validated. Defaults
	// to false: after the validation, the SMS no longer counts, so the limit counts only
	// unconfirmed SMS.
	CountValidated bool `json:"count_validated,omitempty"`
}

// Limits limit how many SMS are sent and how many wrong codes are compared. Except for LookUps, the
// counts are in the store, so all nodes share them, and they survive restarts. All nodes should
// have the same configuration. A request that exceeds a limit gets 429.
//
// Each field is a list of up to eight limits, all of which must allow an SMS or a code. A nil
// list means the default. An empty list that is not nil means no limit.
type Limits struct {
	// Disabled disables all limits. Defaults to false.
	Disabled bool

	// PerNumber limits the SMS to one number. Defaults to 12 on the first day:
	//   - 6 at once, then one every 10 minutes
	//   - 8 at once, then one every 6 hours
	//   - 24 at once, then one an hour, including those that validated
	PerNumber []Limit

	// Reserve allows further SMS to one number if they are refused only by limits of PerNumber
	// whose Every is an hour or more. Each client gets at most one SMS a week from the reserve,
	// so that a few persistent clients do not keep the number's owner from receiving a code.
	// Empty means no reserve. Defaults to:
	//   - 12 at once, then one every 12 hours
	Reserve []Limit

	// PerNumberAndClient limits the SMS to one number that one client requests. It must be
	// stricter than PerNumber, or one client can use up the SMS of a victim's number. Defaults to:
	//   - 4 at once, then one every 10 minutes
	//   - 6 at once, then one every 8 hours
	PerNumberAndClient []Limit

	// PerClient limits all SMS that one client requests. A client is an IPv4 address, the /64
	// of an IPv6 address, or what Options.ClientKey returns. Defaults to:
	//   - 20 at once, then one a minute
	//   - 50 at once, then one every 20 minutes
	PerClient []Limit

	// PerRangeAndClient limits the SMS that one client requests to one range: all numbers that
	// differ only in their last four digits. It must be stricter than PerRange. Defaults to:
	//   - 10 at once, then one every 10 minutes
	//   - 300 at once, then one every 20 seconds, including those that validated
	PerRangeAndClient []Limit

	// PerRange limits the SMS to one range. Defaults to:
	//   - 20 at once, then one every 5 minutes
	//   - 600 at once, then one every 10 seconds, including those that validated
	PerRange []Limit

	// PerCountry limits the SMS to the numbers of one country, and Global limits all SMS. A
	// single node applies them exactly. Several nodes lease parts of these budgets, so they may
	// send up to a twentieth of Burst more, or one more SMS for each node if that is more. A
	// lease is for Burst/20/nodes SMS, and lasts three times as long as SendTimeout plus 5
	// seconds: 45 seconds by default. Defaults to none.
	PerCountry, Global []Limit

	// LookUps limits the requests of one client that look up whether a number has an account,
	// whatever the response. Without it, a client could find out which numbers have an account.
	// Each node has its own counts, in memory. A retry after the SMS was sent is never refused.
	// Defaults to:
	//   - 60 at once, then one every 10 seconds
	//   - 600 at once, then one a minute
	LookUps []Limit

	// FailedSends limits the SMS that one client requested and that were not sent. It also
	// limits, for each client and for each number, retries of SMS that may have been sent and,
	// for each client, codes that the Delegate could not check. The limits above do not count
	// these, but each of them is a call to the provider. Defaults to:
	//   - 20 at once, then one a minute
	FailedSends []Limit

	// WrongCodesPerNumber limits the wrong codes for one number, in any session. A right code
	// resets it. Defaults to:
	//   - 40 at once, then one every 30 minutes
	WrongCodesPerNumber []Limit

	// ReserveCodes limits the codes for one number that are compared even though
	// WrongCodesPerNumber or MaxWrongCodes would refuse them. Only the first code submitted
	// after each SMS can be one of these. Empty means no reserve. Defaults to:
	//   - 24 at once, then one every 4 hours
	ReserveCodes []Limit

	// WrongCodesPerNumberAndClient limits the wrong codes of one client for one number. It must
	// be stricter than WrongCodesPerNumber and MaxWrongCodes, or one client can lock a
	// victim's number. Defaults to:
	//   - 15 at once, then one every 12 hours
	WrongCodesPerNumberAndClient []Limit

	// WrongCodesPerClient limits the wrong codes of one client, for any number. Defaults to:
	//   - 30 at once, then one a minute
	WrongCodesPerClient []Limit

	// MaxWrongCodes is how many wrong codes for one number are compared without a right one
	// in between. NIST SP 800-63B allows 100. The count is reset 30 days after the latest
	// wrong code. Defaults to 100.
	MaxWrongCodes int
}

const (
	// maxMemory bounds Burst times Every, and maxPerScope the length of a list.
	maxMemory   = 366 * 24 * time.Hour
	maxPerScope = 8

	maxWrongCodes = 100
)

// scope is one list of limits, with the name of its field.
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

// WithDefaults returns a copy with defaults in place of nil lists and zero values. If l is
// disabled, all lists are empty.
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

// Validate returns an error that names each invalid field.
func (l Limits) Validate() error {
	var errs []error
	for _, s := range l.scopes() {
		if len(*s.limits) > maxPerScope {
			errs = append(errs, fmt.Errorf("Limits.%s has %d limits; the maximum is %d", s.name, len(*s.limits), maxPerScope)) //nolint:staticcheck // the name of a field
		}
		for _, limit := range *s.limits {
			if limit.Burst < 1 || limit.Every < time.Second || limit.Every > maxMemory/time.Duration(limit.Burst) {
				errs = append(errs, fmt.Errorf( //nolint:staticcheck // the name of a field
					"Limits.%s: %d at once and then one every %v is not a valid limit; Burst must be at least 1, Every at least a second, and their product at most a year",
					s.name, limit.Burst, limit.Every))
			}
		}
	}
	if l.MaxWrongCodes < 0 {
		errs = append(errs, errors.New("Limits.MaxWrongCodes must not be negative"))
	}
	return errors.Join(errs...)
}
