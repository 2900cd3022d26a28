package limits

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/threepid/internal/phone"
)

// Guard blocks ranges of numbers, countries and networks of clients whose numbers
// rarely validate, which is what SMS pumping looks like. It counts the numbers
// that received an SMS and those of them that validated, over a sliding window. While a
// range or country is blocked, requests for its numbers get 429; but a blocked country
// stays open to clients that have at most one number more waiting for its validation
// than validated in the last day, since nearly all honest people are such a client;
// unless these rarely validate either.
//
// A network, the /24 of an IPv4 or the /48 of an IPv6 client, is judged in the same way,
// and refused whatever its clients ask for: one customer may have all of it.
//
// A range is also blocked after eight numbers in ten minutes that are neighbours and
// did not validate. What one client asks for counts as four numbers an hour
// or so, and after a block at least three clients must have asked, so that a single
// one cannot keep anything blocked.
//
// A country's low share of validations is excused for up to three hours when no more SMS
// are sent than in the good hours before: then it is the provider that does not deliver.
type Guard struct {
	// Disabled switches it off.
	Disabled bool

	// DryRun has it report what it would block, and block nothing.
	DryRun bool

	// MinNumbers is how many numbers must have received an SMS before it judges;
	// fewer after a block. Those of the last few minutes do not count yet,
	// unless there are very many. Defaults to 20.
	MinNumbers int

	// MinValidatedPercent is how many of a hundred must have validated; for a country,
	// half of its own usual share if that is less. Defaults to 20.
	MinValidatedPercent int

	// Window is how far back it looks, 5 minutes to a day. Defaults to 1 hour.
	Window time.Duration

	// InitialBlock is how long the first block lasts, and MaxBlock the longest: each
	// is twice as long as the one before. Default to 15 minutes and 12 hours.
	InitialBlock, MaxBlock time.Duration

	// Allow are countries, such as "GB", and beginnings of numbers, such as
	// "+447700", that it never blocks. Defaults to none.
	Allow []string

	// OnBlock is called for each range, country or network that is blocked, in addition
	// to a warning in the log. It is called on the request's goroutine and should
	// return soon. Defaults to none.
	OnBlock func(Block)
}

// Block is what the guard has blocked.
type Block struct {
	Country string    // two letters; empty when a network is blocked
	Range   string    // the beginning of its numbers, in E.164 without the plus sign; empty when the country is blocked
	Network string    // whose clients are refused, such as 2001:db8:77::/48 or 203.0.113.0/24; empty when numbers are blocked
	Reason  string    // for a person
	Count   int       // how often by now
	Until   time.Time // UTC
	DryRun  bool      // nothing was blocked: Guard.DryRun is set
}

// WithDefaults returns a copy with the defaults in place of what is zero.
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

// Validate returns an error that names each field that makes no sense.
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
		errs = append(errs, fmt.Errorf("Guard: InitialBlock must be a minute or more and MaxBlock no less, but they are %v and %v",
			g.InitialBlock, g.MaxBlock))
	}
	for _, allowed := range g.Allow {
		if !isCountry(allowed) && !isPrefix(allowed) {
			errs = append(errs, fmt.Errorf("Guard.Allow: %q is neither a country, such as GB, nor the beginning of a number, such as +4477", allowed))
		}
	}
	return errors.Join(errs...)
}

// Watches reports whether the guard judges what is sent to a number of a country.
func (g Guard) Watches(msisdn, country string) bool {
	return !g.Disabled && !slices.ContainsFunc(g.Allow, func(allowed string) bool {
		return allowed == country || allowed[0] == '+' && strings.HasPrefix(msisdn, allowed[1:])
	})
}

// isCountry reports whether s is a country that has a numbering plan, or "001" for
// numbers of no country.
func isCountry(s string) bool { return s == "001" || phone.KnownRegion(s) }

// isPrefix reports whether s is the beginning of a number in E.164.
func isPrefix(s string) bool {
	rest, plus := strings.CutPrefix(s, "+")
	return plus && rest != "" && strings.Trim(rest, "0123456789") == ""
}
