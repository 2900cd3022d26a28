package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"text/tabwriter"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/sqlite"
)

// timingWarmUp is the number of requests of each kind before those that count.
const timingWarmUp = 200

// pair is two kinds of request with equal responses. Response times must not distinguish them
// either.
type pair struct {
	name    string
	path    string
	known   string // the request about a number or sid in the database
	unknown string
	status  int
	body    func(i int) []byte
}

func pairs() []pair {
	asking := func(i int) []byte { return body(fmt.Sprintf("%030d", i), fmt.Sprintf("07400%06d", i)) }
	const base = "/_api/client/v3"
	return []pair{
		{"register", base + "/register/msisdn/requestToken", "taken", "free", http.StatusOK, asking},
		{"password", passwordPath, "known", "unknown", http.StatusOK, asking},
		{
			"submit", submitPath, "wrong secret", "unknown sid", http.StatusBadRequest,
			func(i int) []byte {
				return fmt.Appendf(nil, `{"sid":"%039d","client_secret":"%030d","token":"123456"}`, i, i)
			},
		},
	}
}

// deck returns numbers and sids that were not used before, alternately in the database and not.
type deck struct{ known, unknown []int }

func shuffledDeck(each int) *deck {
	all := rand.Perm(2 * each)
	return &deck{known: all[:each], unknown: all[each:]}
}

func (d *deck) draw(known bool) (i int) {
	from := &d.unknown
	if known {
		from = &d.known
	}
	i, *from = (*from)[0], (*from)[1:]
	return i
}

// timing sends both kinds of each pair in random order, one after the other, and tests whether the
// response times could come from one distribution.
func timing(ctx context.Context, cfg config, out io.Writer) (err error) {
	const numbers = 1_000_000
	each := cfg.rounds * len(pairs()) * (cfg.samples + timingWarmUp)
	if 2*each > numbers {
		return fmt.Errorf("-rounds and -samples ask about %d numbers, and there are %d", 2*each, numbers)
	}
	cards := shuffledDeck(each)
	db := filepath.Join(cfg.dir, "timing.db")
	if err := know(ctx, db, cards.known); err != nil {
		return err
	}
	child, err := startSelf(ctx, db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, child.stop()) }()
	c, err := dial(child.addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.conn.Close() }()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "\tmedian\t\tmedian\tz of U\tp of U\tp of K-S\t")
	for range cfg.rounds {
		for _, p := range pairs() {
			known, unknown, err := interleave(ctx, c, p, cards, cfg.samples)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			z, likely := mannWhitney(known, unknown)
			_, _ = fmt.Fprintf(table, "%s, %s\t%v\t%s\t%v\t%+.2f\t%.4f\t%.4f\t\n", p.name, p.known, short(median(known)),
				p.unknown, short(median(unknown)), z, likely, kolmogorovSmirnov(known, unknown))
		}
	}
	return table.Flush()
}

// know stores an account and a session for each of the numbers.
func know(ctx context.Context, db string, numbers []int) (err error) {
	s, err := sqlite.Open(db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	now := time.Now()
	for _, i := range numbers {
		session := stored(i, now)
		if err := s.Associate(ctx, store.Association{UserID: fmt.Sprintf("@%09d:example.org", i), MSISDN: session.MSISDN, AddedAt: 1}); err != nil {
			return err
		}
		if err := put(ctx, s, session); err != nil {
			return err
		}
	}
	return nil
}

// interleave returns the response times after the warm-up.
func interleave(ctx context.Context, c *client, p pair, cards *deck, samples int) (known, unknown []time.Duration, err error) {
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // so that a pause of this program does not count as the server's
	for _, part := range []int{timingWarmUp, samples} {
		known, unknown = make([]time.Duration, 0, part), make([]time.Duration, 0, part)
		for _, i := range rand.Perm(2 * part) {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			side := &unknown
			if i < part {
				side = &known
			}
			question := p.body(cards.draw(i < part))
			begin := time.Now()
			status, err := c.post(p.path, question)
			took := time.Since(begin)
			if err != nil {
				return nil, nil, err
			}
			if status != p.status {
				return nil, nil, fmt.Errorf("answered %d, not %d", status, p.status)
			}
			*side = append(*side, took)
		}
	}
	return known, unknown, nil
}

// mannWhitney tests whether a value of a is greater than one of b as often as the reverse. It
// returns z of the U statistic, positive if values of a are greater, and the probability of a value
// at least as far from 0. Both series must have some dozens of values.
func mannWhitney(a, b []time.Duration) (z, p float64) {
	all := slices.Concat(a, b)
	slices.Sort(all)
	n, m := float64(len(a)), float64(len(b))
	rank := make(map[time.Duration]float64, len(all)) // equal values share the mean of their ranks
	ties := 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j] == all[i] {
			j++
		}
		equal := float64(j - i)
		rank[all[i]] = float64(i+j+1) / 2
		ties += equal*equal*equal - equal
		i = j
	}
	u := -n * (n + 1) / 2
	for _, v := range a {
		u += rank[v]
	}
	total := n + m
	deviation := math.Sqrt(n * m / 12 * (total + 1 - ties/(total*(total-1))))
	if deviation == 0 {
		return 0, 1
	}
	z = (u - n*m/2) / deviation
	return z, math.Erfc(math.Abs(z) / math.Sqrt2)
}

// kolmogorovSmirnov returns the probability that two samples of one distribution differ at some
// point by at least as much as these.
func kolmogorovSmirnov(a, b []time.Duration) (p float64) {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	n, m := float64(len(a)), float64(len(b))
	apart := 0.0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		at := min(a[i], b[j])
		for i < len(a) && a[i] == at {
			i++
		}
		for j < len(b) && b[j] == at {
			j++
		}
		apart = max(apart, math.Abs(float64(i)/n-float64(j)/m))
	}
	root := math.Sqrt(n * m / (n + m))
	lambda := (root + 0.12 + 0.11/root) * apart
	if lambda < 0.2 {
		return 1 // near 0, the series converges slowly to 1
	}
	const terms = 100
	for k := 1; k <= terms; k++ {
		sign := float64(2*(k%2) - 1)
		p += 2 * sign * math.Exp(-2*lambda*lambda*float64(k*k))
	}
	return min(max(p, 0), 1)
}
