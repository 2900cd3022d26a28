package verify

import (
	"context"

	"example.com/threepid/internal/limit"
	"example.com/threepid/internal/phone"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/store"
)

// Blocks returns what blocks a number in E.164, and changes nothing.
func (s *Service) Blocks(ctx context.Context, number string) ([]limits.Block, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	n, err := phone.ParseE164(number)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	return s.blocks(ctx, n)
}

// Unblock resets what is counted for a number in E.164 and for its range, and returns what
// still blocks the number.
func (s *Service) Unblock(ctx context.Context, number string) ([]limits.Block, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	n, err := phone.ParseE164(number)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	who := s.subject(n, "")
	names := store.Names{Records: s.limiter.Keys(who, limit.Number, limit.Range)}
	err = s.units.Update(ctx, names, func(rows *store.Rows) error {
		g, err := s.ledger(rows.Records, who, limit.Number, limit.Range)
		if err != nil {
			return err
		}
		g.Clear()
		return g.Put()
	})
	if err != nil {
		return nil, err
	}
	if s.events.wanted() {
		s.events.emit(ctx, observe.Unblock{Meta: s.events.meta(ctx), Number: phone.Mask(n.MSISDN)})
	}
	return s.blocks(ctx, n)
}

// blocks returns what blocks a number.
func (s *Service) blocks(ctx context.Context, n phone.Number) (blocks []limits.Block, err error) {
	if _, test := s.testNumber(n.MSISDN); test {
		return nil, nil
	}
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
	return append(g.Holds(), s.budgets.Holds(who, rows.Records)...), nil
}
