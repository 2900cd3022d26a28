package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// maxTimeline is how many events of a number Explain returns.
const maxTimeline = 500

// Explanation is what is known about a number.
type Explanation struct {
	Number phone.Number
	UserID string // of its account; may be empty
	Policy string // why the policy refuses it; may be empty
	Test   bool   // it is a test number

	Levels []limits.Level
	Blocks []limits.Block

	Events []observe.Event // the latest first
	Since  time.Time       // since when they are complete; zero: there is no journal
}

// Explain returns what is known about a number in E.164.
func (s *Service) Explain(ctx context.Context, number string) (x Explanation, err error) {
	if err := s.enter(); err != nil {
		return x, err
	}
	defer s.active.Done()
	if x.Number, err = phone.ParseE164(number); err != nil {
		return x, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := s.explain(ctx, &x); err != nil {
		return Explanation{}, err
	}
	s.observeAction(ctx, "explain", phone.Mask(x.Number.MSISDN))
	return x, nil
}

func (s *Service) explain(ctx context.Context, x *Explanation) (err error) {
	msisdn := x.Number.MSISDN
	_, x.Test = s.testNumber(msisdn)
	x.UserID, err = s.Accounts.Owner(ctx, msisdn)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("threepid: look up the number's account: %w", err)
	}
	var refusal *Error
	if !x.Test && errors.As(s.checkPolicy(x.Number), &refusal) {
		x.Policy = refusal.Message
	}
	if x.Events, x.Since, err = s.history.Timeline(ctx, msisdn, maxTimeline); err != nil {
		return err
	}
	if x.Test {
		return nil
	}
	if x.Levels, err = s.levels(ctx, x.Number); err != nil {
		return err
	}
	x.Blocks, err = s.blocks(ctx, x.Number)
	return err
}

// levels returns how much of the limits of a number, its range, its country and the host is used.
func (s *Service) levels(ctx context.Context, n phone.Number) ([]limits.Level, error) {
	who := s.subject(n, "")
	budgets := s.budgets.Keys(who)
	rows, err := s.units.View(ctx, store.Names{Records: append(budgets, s.limiter.Keys(who, limit.SMSKinds()...)...)})
	if err != nil {
		return nil, err
	}
	g, err := s.ledger(rows.Records[len(budgets):], who, limit.SMSKinds()...)
	if err != nil {
		return nil, err
	}
	return append(g.Levels(), s.budgets.Levels(who, rows.Records)...), nil
}
