package threepid

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/threepid/internal/verify"
)

// Limit lets Burst through at once and then one each Per: in any span of time,
// no more than Burst and one for each Per that goes into the span (the generic
// cell rate algorithm).
type Limit struct {
	Burst int           // 1 or more
	Per   time.Duration // 1 second or more

	// Final keeps what was let through counted although its number validated.
	// Default: a validation gives it back, so that a limit counts only texts
	// that nobody has confirmed.
	Final bool
}

// Limits bound the texts that leave, and the wrong codes that are compared.
// They are kept in the store: all nodes share them, and they outlive restarts.
// All nodes should be given the same. Each text counts in every scope; when one
// of a scope's limits is reached the request is answered 429.
//
// A scope that is nil has the default; one that is empty, not nil, has no limit. It
// has eight limits at most.
type Limits struct {
	// Off switches all of them off.
	Off bool

	// Number limits the texts to one number. Default: 6 at once, then one in 10
	// minutes, of which 8 and then one in 6 hours, so 12 on the first day; and 24
	// and then one an hour that count although they validated.
	Number []Limit

	// Reserve limits the texts to one number beyond those limits of Number that let one
	// through in an hour or less often. A client that took none from the reserve for a
	// week gets one when they refuse it, so that a few clients that never give up do
	// not keep the number's owner from receiving a code.
	// Default: 12, then one in 12 hours. Empty: none.
	Reserve []Limit

	// NumberClient limits those that one client asks for. It must be tighter
	// than Number, or one client can use a victim's number up.
	// Default: 4, then one in 10 minutes, of which 6 and then one in 8 hours.
	NumberClient []Limit

	// Client limits all that one client asks for: an IPv4 address, the /64 of an
	// IPv6 address, or what Options.Client says. Default: 20, then one a minute,
	// of which 50 and then one in 20 minutes.
	Client []Limit

	// BlockClient limits those that one client asks for to one block: all
	// numbers that differ in their last four digits only. It must be tighter
	// than Block. Default: 10, then one in 10 minutes.
	BlockClient []Limit

	// Block limits the texts to one block. Default: 20, then one in 5 minutes.
	Block []Limit

	// Country limits the texts to the numbers of one country, and All limits
	// all texts, whatever their cost may be. Default: none.
	Country, All []Limit

	// LookUps limits the requests of one client for which it is looked up whether the
	// number has an account, whatever the response: a client that may ask often learns
	// which numbers have one. Each node counts for itself, in memory. A retry of an
	// attempt that was sent is never refused.
	// Defaults to 60, then one in 10 seconds, of which 600 and then one a minute.
	LookUps []Limit

	// Failed limits the texts that one client asked for and that did not leave,
	// and, for one client and for one number, further tries of texts that may
	// have left; with a Delegate also codes that it did not check. They cost nothing
	// in the scopes above, but each is a call to the provider.
	// Default: 20, then one a minute.
	Failed []Limit

	// WrongCodes limits the wrong codes for one number, whichever session they
	// are for; the right one clears them. Default: 40, then one in 30 minutes.
	WrongCodes []Limit

	// ReserveCodes limits the codes for one number that are compared although
	// WrongCodes or MostWrongCodes refuse them, each the first that is typed for a code
	// that was sent. Default: 24, then one in 4 hours. Empty: none.
	ReserveCodes []Limit

	// WrongCodesClient limits those that one client submits for one number. It
	// must be tighter than WrongCodes and MostWrongCodes, or one client can
	// lock a victim's number. Default: 15, then one in 12 hours.
	WrongCodesClient []Limit

	// Submits limits the wrong codes of one client, for any number.
	// Default: 30, then one a minute.
	Submits []Limit

	// MostWrongCodes is how many wrong codes one number bears without a right
	// one in between: NIST SP 800-63B allows 100. They are forgotten 30 days
	// after the latest. Default 100.
	MostWrongCodes int
}

// withDefaults fills in what is nil, or empties all if they are off.
func (l Limits) withDefaults() Limits {
	if l.Off {
		return Limits{Off: true}
	}
	const minute, hour = time.Minute, time.Hour
	for _, scope := range []struct {
		limits    *[]Limit
		otherwise []Limit
	}{
		{&l.Number, []Limit{{Burst: 6, Per: 10 * minute}, {Burst: 8, Per: 6 * hour}, {Burst: 24, Per: hour, Final: true}}},
		{&l.Reserve, []Limit{{Burst: 12, Per: 12 * hour}}},
		{&l.ReserveCodes, []Limit{{Burst: 24, Per: 4 * hour}}},
		{&l.NumberClient, []Limit{{Burst: 4, Per: 10 * minute}, {Burst: 6, Per: 8 * hour}}},
		{&l.Client, []Limit{{Burst: 20, Per: minute}, {Burst: 50, Per: 20 * minute}}},
		{&l.BlockClient, []Limit{{Burst: 10, Per: 10 * minute}}},
		{&l.Block, []Limit{{Burst: 20, Per: 5 * minute}}},
		{&l.LookUps, []Limit{{Burst: 60, Per: 10 * time.Second}, {Burst: 600, Per: minute}}},
		{&l.Failed, []Limit{{Burst: 20, Per: minute}}},
		{&l.WrongCodes, []Limit{{Burst: 40, Per: 30 * minute}}},
		{&l.WrongCodesClient, []Limit{{Burst: 15, Per: 12 * hour}}},
		{&l.Submits, []Limit{{Burst: 30, Per: minute}}},
	} {
		if *scope.limits == nil {
			*scope.limits = scope.otherwise
		} else {
			*scope.limits = slices.Clone(*scope.limits)
		}
	}
	orDefault(&l.MostWrongCodes, defaultMostWrongCodes)
	return l
}

const (
	defaultMostWrongCodes = 100

	// longestLimit and mostLimits, of a scope, bound what is remembered.
	longestLimit = 366 * 24 * time.Hour
	mostLimits   = 8
)

// check tells which limits make no sense.
func (l Limits) check() error {
	var errs []error
	for name, limits := range map[string][]Limit{
		"Number": l.Number, "Reserve": l.Reserve, "ReserveCodes": l.ReserveCodes, "NumberClient": l.NumberClient, "Client": l.Client, "BlockClient": l.BlockClient, "Block": l.Block,
		"Country": l.Country, "All": l.All, "LookUps": l.LookUps, "Failed": l.Failed, "WrongCodes": l.WrongCodes, "WrongCodesClient": l.WrongCodesClient, "Submits": l.Submits,
	} {
		if len(limits) > mostLimits {
			errs = append(errs, fmt.Errorf("threepid: Options.Limits.%s has %d limits; at most %d are kept", name, len(limits), mostLimits))
		}
		for _, limit := range limits {
			if limit.Burst < 1 || limit.Per < time.Second || limit.Per > longestLimit/time.Duration(limit.Burst) {
				errs = append(errs, fmt.Errorf(
					"threepid: Options.Limits.%s: %d and then one each %v makes no limit; Burst must be 1 or more, Per a second or more, and both together a year at most",
					name, limit.Burst, limit.Per))
			}
		}
	}
	if l.MostWrongCodes < 0 {
		errs = append(errs, errors.New("threepid: Options.Limits.MostWrongCodes must not be negative"))
	}
	return errors.Join(errs...)
}

// rules are the limits as the domain has them.
func (l Limits) rules() verify.Limits {
	scope := func(limits []Limit) []verify.Limit {
		var rules []verify.Limit
		for _, limit := range limits {
			rules = append(rules, verify.Limit(limit))
		}
		return rules
	}
	return verify.Limits{
		Number: scope(l.Number), Reserve: scope(l.Reserve), ReserveCodes: scope(l.ReserveCodes), NumberClient: scope(l.NumberClient), Client: scope(l.Client),
		BlockClient: scope(l.BlockClient), Block: scope(l.Block), Country: scope(l.Country), All: scope(l.All), Failed: scope(l.Failed), LookUps: scope(l.LookUps),
		Wrong: scope(l.WrongCodes), WrongClient: scope(l.WrongCodesClient), Submit: scope(l.Submits), WrongMost: l.MostWrongCodes,
	}
}

// Guard closes blocks of numbers and countries whose numbers hardly ever
// validate, which is what SMS pumping looks like: an attacker has texts sent to
// numbers that he is paid for and nobody reads. It counts the numbers texted and
// those of them that validated, over a sliding window in the store. While a block
// or country is closed, requests for its numbers are answered 429; but a closed
// country stays open to clients of which no other number is unconfirmed that they
// asked for in the last day, since nearly all honest people are such a client;
// unless these hardly ever confirm either.
//
// A network, the /24 of an IPv4 or the /48 of an IPv6 client, is judged likewise,
// and refused whatever its clients ask for: who owns one has many of those
// that count as one client each.
//
// A block is also closed after eight numbers in ten minutes that lie side by side
// and did not validate. What one client asks for counts as four numbers an hour
// or so, lest a single one closes a country to everybody.
type Guard struct {
	// Off switches it off.
	Off bool

	// Observe has it tell what it would close, and close nothing.
	Observe bool

	// MinNumbers is how many numbers must have been texted before it judges;
	// fewer after it has closed. Those of the last few minutes do not count yet,
	// unless there are very many. Default 20.
	MinNumbers int

	// MinPercent is how many of a hundred must have validated. Default 20.
	MinPercent int

	// Window is how far back it looks, 5 minutes to a day. Default 1 hour.
	Window time.Duration

	// CloseFirst is for how long it closes the first time, and CloseMost at the
	// most: each time is twice as long as the one before.
	// Default 15 minutes and 12 hours.
	CloseFirst, CloseMost time.Duration

	// Allow are countries, such as "GB", and beginnings of numbers, such as
	// "+447700", that it leaves alone. Default: none.
	Allow []string

	// OnClosing is told of each block, country or network that is closed, beside
	// a warning in the log. It is called on the request's goroutine and should
	// return soon. Default: none.
	OnClosing func(Closing)
}

// Closing tells an operator what the guard has closed to texts.
type Closing struct {
	Country  string    // two letters; empty when a network is closed
	Block    string    // the beginning of its numbers, in E.164 without the plus sign; empty when the country is closed
	Network  string    // whose clients are refused, such as 2001:db8:77::/48 or 203.0.113.0/24; empty when numbers are closed
	Reason   string    // for a person
	Times    int       // how often by now
	Until    time.Time // UTC
	Observed bool      // nothing was closed: Guard.Observe is set
}

func (g Guard) withDefaults() Guard {
	const percent, numbers = 20, 20
	orDefault(&g.MinNumbers, numbers)
	orDefault(&g.MinPercent, percent)
	orDefault(&g.Window, time.Hour)
	orDefault(&g.CloseFirst, 15*time.Minute)
	orDefault(&g.CloseMost, 12*time.Hour)
	g.Allow = slices.Clone(g.Allow)
	return g
}

func (g Guard) check() error {
	const hundred, million = 100, 1_000_000
	var errs []error
	if g.MinNumbers < 1 || g.MinNumbers > million || g.MinPercent < 1 || g.MinPercent > hundred {
		errs = append(errs, fmt.Errorf("threepid: Options.Guard: MinNumbers must be 1 to 1,000,000 and MinPercent 1 to 100, not %d and %d",
			g.MinNumbers, g.MinPercent))
	}
	if g.Window < 5*time.Minute || g.Window > 24*time.Hour {
		errs = append(errs, fmt.Errorf("threepid: Options.Guard.Window must be 5 minutes to 24 hours, not %v", g.Window))
	}
	if g.CloseFirst < time.Minute || g.CloseMost < g.CloseFirst || g.CloseMost > longestLimit {
		errs = append(errs, fmt.Errorf("threepid: Options.Guard: CloseFirst must be a minute or more and CloseMost no less, but they are %v and %v",
			g.CloseFirst, g.CloseMost))
	}
	for _, allowed := range g.Allow {
		if !isCountry(allowed) && !isPrefix(allowed) {
			errs = append(errs, fmt.Errorf("threepid: Options.Guard.Allow: %q is neither a country, such as GB, nor the beginning of a number, such as +4477", allowed))
		}
	}
	return errors.Join(errs...)
}

// rules are the guard as the domain has it.
func (g Guard) rules() verify.Guard {
	return verify.Guard{
		On: !g.Off, Observe: g.Observe, MinNumbers: g.MinNumbers, MinPercent: g.MinPercent,
		Window: g.Window, CloseFirst: g.CloseFirst, CloseMost: g.CloseMost, Allow: digits(g.Allow),
	}
}
