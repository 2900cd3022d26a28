package limits

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/threepid/internal/phone"
)

// Guard blocks ranges of numbers, countries and client networks when few of their numbers are
// validated, because SMS pumping looks like that. Over a sliding window, it counts the numbers
// that received an SMS, and how many of them were validated.
//
// A range is all numbers that differ only in their last four digits. While a range is blocked,
// requests for its numbers get 429. A range is also blocked if eight neighbouring numbers
// received an SMS within ten minutes and none of them was validated. One client adds only
// about four numbers an hour to the counts, and the guard blocks a range again only if at least
// three clients have requested SMS, so that no single client can keep a range blocked.
//
// While a country is blocked, requests for its numbers get 429, except from clients whose
// unvalidated numbers of the last day exceed their validated ones by at most one. Nearly all honest
// clients meet this condition. If few of the numbers that these clients request are validated
// either, the country is blocked for all clients. A low share of validations is excused for up to
// three hours if the country receives no more SMS than usual: the cause is then probably a provider
// that does not deliver.
//
// A network is the /24 of an IPv4 client or the /48 of an IPv6 client, because one customer may
// have all of it. While a network is blocked, all requests from its clients get 429.
type Guard struct {
	// Disabled disables the guard. Defaults to false.
	Disabled bool

	// DryRun reports what the guard would block, and blocks nothing. Defaults to false.
	DryRun bool

	// MinNumbers is how many numbers must have received an SMS before MinValidatedPercent applies.
	// After a block, fewer are enough. Numbers that received their SMS in the last few minutes do
	// not count yet, unless there are very many of them. Defaults to 20.
	MinNumbers int

	// MinValidatedPercent is the percentage of these numbers that must be validated. For a
	// country, half of its usual percentage is enough, if that is less. Defaults to 20.
	MinValidatedPercent int

	// Window is the length of the sliding window, 5 minutes to a day. Defaults to 1 hour.
	Window time.Duration

	// InitialBlock is the duration of the first block. Each further block lasts twice as long
	// as the one before, up to MaxBlock. Default to 15 minutes and 12 hours.
	InitialBlock, MaxBlock time.Duration

	// Allow lists countries, such as "GB", and prefixes of numbers, such as "+447700", that the
	// guard never blocks. Defaults to none.
	Allow []string

	// OnBlock is called for each range, country or network that the guard blocks, in addition
	// to a warning in the log. It is called on the goroutine of a request, so it should
	// return quickly. Defaults to none.
	OnBlock func(Block)
}

// Block is a range, country or network that the guard blocks, or a limit that refuses a
// number: see Plugin.Blocks.
type Block struct {
	Country string    `json:"country,omitempty"` // two letters; empty for a network
	Range   string    `json:"range,omitempty"`   // the digits with which all its numbers begin, in E.164 without the plus sign; empty for a country
	Network string    `json:"network,omitempty"` // such as 2001:db8:77::/48 or 203.0.113.0/24; empty for numbers
	Reason  string    `json:"reason,omitempty"`  // for a person
	Count   int       `json:"count,omitempty"`   // how many times it has been blocked
	Until   time.Time `json:"until"`             // UTC
	DryRun  bool      `json:"dry_run,omitempty"` // nothing is blocked, because Guard.DryRun is set
}

// WithDefaults returns a copy with defaults in place of zero values.
func (g Guard) WithDefaults() Guard {
	const percent, numbers = 20, 20
	orDefault(&g.MinNumbers, numbers)
	orDefault(&g.MinValidatedPercent, percent)
	orDefault(&g.Window, time.Hour)
	orDefault(&g.InitialBlock, 15*time.Minute)
	orDefault(&g.MaxBlock, 12*time.Hour)
	g.Allow = slices.Clone(g.Allow)
	return g
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate returns an error that names each invalid field.
func (g Guard) Validate() error {
	const hundred, million = 100, 1_000_000
	var errs []error
	if g.MinNumbers < 1 || g.MinNumbers > million || g.MinValidatedPercent < 1 || g.MinValidatedPercent > hundred {
		errs = append(errs, fmt.Errorf("Guard: MinNumbers must be 1 to 1,000,000 and MinValidatedPercent 1 to 100, not %d and %d",
			g.MinNumbers, g.MinValidatedPercent))
	}
	if g.Window < 5*time.Minute || g.Window > 24*time.Hour {
		errs = append(errs, fmt.Errorf("Guard.Window must be 5 minutes to 24 hours, not %v", g.Window))
	}
	if g.InitialBlock < time.Minute || g.MaxBlock < g.InitialBlock || g.MaxBlock > maxMemory {
		errs = append(errs, fmt.Errorf("Guard: InitialBlock must be at least a minute and MaxBlock at least InitialBlock, but they are %v and %v",
			g.InitialBlock, g.MaxBlock))
	}
	for _, allowed := range g.Allow {
		if !isCountry(allowed) && !isPrefix(allowed) {
			errs = append(errs, fmt.Errorf("Guard.Allow: %q is neither a country, such as GB, nor the beginning of a number, such as +4477", allowed))
		}
	}
	return errors.Join(errs...)
}

// Watches reports whether the guard counts SMS to a number of a country.
func (g Guard) Watches(msisdn, country string) bool {
	return !g.Disabled && !slices.ContainsFunc(g.Allow, func(allowed string) bool {
		return allowed == country || allowed[0] == '+' && strings.HasPrefix(msisdn, allowed[1:])
	})
}

// isCountry reports whether s is a country that has a numbering plan, or "001" for
// numbers that belong to no country.
func isCountry(s string) bool { return s == "001" || phone.KnownRegion(s) }

// isPrefix reports whether s is a prefix of numbers in E.164.
func isPrefix(s string) bool {
	rest, plus := strings.CutPrefix(s, "+")
	return plus && rest != "" && strings.Trim(rest, "0123456789") == ""
}
