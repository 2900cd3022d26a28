package verify

import (
	"context"
	"crypto/rand"
	"errors"
	"math"
	"strings"
	"time"

	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// How the flows use the rate limits and the guard: package limit has the rules.

// flushInterval is how often nodes exchange the guard's counts and verdicts.
const (
	flushInterval = time.Second
	flushTimeout  = 2 * time.Second
)

// subject returns the subject to which an SMS to the number, or a code for it, is charged.
func (s *Service) subject(n phone.Number, client string) limit.Subject {
	name, prefix := limit.ClientName(client)
	return limit.Subject{
		MSISDN: n.MSISDN, Country: n.Home(), Client: name, Prefix: prefix,
		Guarded: s.Guard.Watches(n.MSISDN, n.Home()),
	}
}

// ledger reads a subject's records of these kinds.
func (s *Service) ledger(records []store.Record, who limit.Subject, kinds ...limit.Kind) (*limit.Ledger, error) {
	return s.limiter.Load(who, records, s.now(), kinds...)
}

// ask applies do to the records without storing the result, and returns the refusal, so that
// a flood of refused requests takes no write lock.
func (s *Service) ask(ctx context.Context, who limit.Subject, kinds []limit.Kind, do func(*limit.Ledger) limit.Refusal) error {
	names := store.Names{Records: s.limiter.Keys(who, kinds...)}
	if len(names.Records) == 0 {
		return nil
	}
	// What follows names these too, and then need not read them.
	names.Records = append(names.Records, epochKey(who.MSISDN))
	names.Records = append(names.Records, s.limiter.Keys(who, limit.Range)...)
	ctx, cancel := bounded(ctx)
	defer cancel()
	rows, err := s.units.View(ctx, names)
	if err != nil {
		return err
	}
	g, err := s.ledger(rows.Records, who, kinds...)
	if err != nil {
		return err
	}
	return s.refused(ctx, do(g), who)
}

// takeFromBudgets charges an SMS to the budgets of its country and of the host.
func (s *Service) takeFromBudgets(ctx context.Context, d delivery) (limit.Grant, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	grant, met, err := s.budgets.Take(ctx, d.who)
	if err != nil {
		return nil, err
	}
	return grant, s.refused(ctx, met, d.who)
}

// renewGrant charges a claim's SMS to the budgets again if their lease has ended.
func (s *Service) renewGrant(ctx context.Context, c *claim, d delivery) (err error) {
	if s.budgets.Valid(c.grant) {
		return nil
	}
	c.grant, err = s.takeFromBudgets(ctx, d) // the old charge stays
	return err
}

// refused logs a refusal and returns its error, or nil if there was none.
func (s *Service) refused(ctx context.Context, met limit.Refusal, who limit.Subject) error {
	if met.Wait == 0 {
		return nil
	}
	s.log(ctx).Info("threepid: a limit is reached", "scope", met.Scope, "number", phone.Mask(who.MSISDN),
		"country", who.Country, "wait", (time.Duration(met.Wait) * time.Millisecond).Round(time.Second))
	refusal := errLimited(time.Duration(met.Wait) * time.Millisecond)
	refusal.Reason = met.Scope
	if !strings.HasPrefix(met.Scope, "guard: ") {
		refusal.Reason = "limit: " + met.Scope
	}
	return refusal
}

// errLimited reveals neither which limit was reached nor anything about the number.
func errLimited(wait time.Duration) *Error {
	e := Errorf(Limited, "Too many requests. Try again in %s.", roundForHumans(wait))
	e.RetryAfter = wait
	return e
}

// roundForHumans rounds a duration up to a unit that people use.
func roundForHumans(d time.Duration) string {
	up := func(unit time.Duration) int { return int(math.Ceil(float64(d) / float64(unit))) }
	switch {
	case d <= time.Second:
		return "a second"
	case d <= time.Minute:
		return plural(up(time.Second), "second", "seconds")
	case d <= 2*time.Hour:
		return plural(up(time.Minute), "minute", "minutes")
	case d <= 48*time.Hour:
		return plural(up(time.Hour), "hour", "hours")
	default:
		return plural(up(24*time.Hour), "day", "days")
	}
}

// reportBlocks logs and reports what the guard has blocked.
func (s *Service) reportBlocks(ctx context.Context, blocks []limits.Block) {
	for _, b := range blocks {
		s.log(ctx).Warn(blockWords(b), "country", b.Country, "range", b.Range, "network", b.Network,
			"reason", b.Reason, "count", b.Count, "until", b.Until, "dry_run", b.DryRun)
		s.observeBlock(ctx, b)
		if s.Guard.OnBlock != nil {
			s.Guard.OnBlock(b)
		}
	}
}

// blockWords returns a log message about a block: what is blocked, and how to end it.
func blockWords(b limits.Block) string {
	what, remedy := "a country", "Guard.Allow exempts one"
	switch {
	case b.Network != "":
		what, remedy = "a network of clients", "it ends by itself"
	case b.Range != "":
		what, remedy = "a range of numbers", "Plugin.Unblock ends it"
	}
	if b.DryRun {
		return "threepid: the guard would block SMS to " + what + ", but Guard.DryRun is set"
	}
	return "threepid: the guard has blocked SMS to " + what + "; " + remedy
}

// flushUntilClosed calls flush every second until Close.
func (s *Service) flushUntilClosed() {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-s.closing.Done():
			return
		case <-ticker.C:
		}
		err := s.flush(false)
		if err != nil && !failing {
			s.Logger.Error("threepid: the guard and the budgets cannot exchange counts with the other nodes; they go on with what they have, and try again every second", "error", err)
		}
		failing = err != nil
	}
}

// flush exchanges the guard's counts, and gives back unused parts of budgets: all of them if
// closing is set.
func (s *Service) flush(closing bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	return errors.Join(s.limiter.Watch.Flush(ctx), s.budgets.Flush(ctx, closing))
}

// nodeName returns a random name for this node's counts, so that a node that restarts does not
// replace what it counted before.
func nodeName() string { return rand.Text() }
