package verify

import (
	"context"
	"slices"
	"strings"
	"time"

	"example.com/threepid/internal/history"
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
	s.observeUnblock(ctx, "number", phone.Mask(n.MSISDN), aboutNumber(n.MSISDN))
	s.observeAction(ctx, "unblock", phone.Mask(n.MSISDN))
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

const (
	// maxRanges is how many blocks of ranges AllBlocks looks at.
	maxRanges = 1000

	// blocksInterval is how often the Observer receives a Blocks.
	blocksInterval = 10 * time.Second
)

// AllBlocks returns what the guard blocks now. Blocked ranges are known from the journal; without
// a store.History they are missing.
func (s *Service) AllBlocks(ctx context.Context) ([]limits.Block, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	ranges, err := s.blockedRanges(ctx)
	return append(s.limiter.Watch.AllBlocks(), ranges...), err
}

// reportBlocksUntilClosed reports what is blocked to the Observer, at once and every blocksInterval. A
// report is left out if the store fails.
func (s *Service) reportBlocksUntilClosed() {
	if s.events.observer == nil {
		return
	}
	ticker := time.NewTicker(blocksInterval)
	defer ticker.Stop()
	for {
		ctx, cancel := s.untilClosed(context.Background())
		if blocks, err := s.AllBlocks(ctx); err == nil {
			event := observe.Blocks{Meta: s.events.meta(ctx)}
			event.Ranges, event.Countries, event.Networks = countBlocks(blocks)
			s.events.emit(ctx, event)
		}
		cancel()
		select {
		case <-s.closing.Done():
			return
		case <-ticker.C:
		}
	}
}

// countBlocks counts the blocks that apply.
func countBlocks(blocks []limits.Block) (ranges, countries, networks int) {
	for _, b := range blocks {
		switch {
		case b.DryRun:
		case b.Network != "":
			networks++
		case b.Range != "":
			ranges++
		default:
			countries++
		}
	}
	return ranges, countries, networks
}

// blockedRanges returns the ranges in the journal whose records say that they are blocked: an
// operator may have ended a block, and a later one may last longer.
func (s *Service) blockedRanges(ctx context.Context) (blocks []limits.Block, err error) {
	ranges, err := s.rangesBlockedBefore(ctx)
	if err != nil || len(ranges) == 0 {
		return nil, err
	}
	var names store.Names
	for _, r := range ranges {
		names.Records = append(names.Records, s.limiter.Keys(r.who, limit.Range)...)
	}
	rows, err := s.units.View(ctx, names)
	if err != nil {
		return nil, err
	}
	each := len(names.Records) / len(ranges)
	for i, r := range ranges {
		g, err := s.ledger(rows.Records[i*each:(i+1)*each], r.who, limit.Range)
		if err != nil {
			return nil, err
		}
		for _, b := range g.Blocks() {
			if b.Range != "" {
				b.Reason = r.reason
				blocks = append(blocks, b)
			}
		}
	}
	return blocks, nil
}

// blockedRange is a range that was blocked, and why.
type blockedRange struct {
	who    limit.Subject
	reason string
}

// rangesBlockedBefore returns the ranges that are in the journal, each with its latest reason.
func (s *Service) rangesBlockedBefore(ctx context.Context) (ranges []blockedRange, err error) {
	events, err := s.history.Ranges(ctx, s.Now().Add(-s.Guard.MaxBlock), maxRanges)
	if err != nil {
		return nil, err
	}
	seen := make(map[string]bool)
	for _, e := range events {
		if block, ok := e.(observe.Block); ok && !seen[block.Subject] {
			seen[block.Subject] = true
			ranges = append(ranges, blockedRange{s.rangeOf(strings.Trim(block.Subject, "+*")), block.Reason})
		}
	}
	return ranges, nil
}

// rangeOf returns the subject of a range, which is named by the digits with which its numbers
// begin.
func (s *Service) rangeOf(digits string) limit.Subject {
	who := limit.Subject{MSISDN: digits + "0000", Guarded: true}
	if n, err := phone.ParseE164(who.MSISDN); err == nil {
		who.Country = n.Home()
	}
	return who
}

// Lift ends a block of a range, country or network.
func (s *Service) Lift(ctx context.Context, b limits.Block) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	kind, subject := blocked(b)
	if b.Range == "" {
		if !s.limiter.Watch.Lift(b) {
			return ErrNotBlocked
		}
	} else if err := s.liftRange(ctx, b.Range); err != nil {
		return err
	}
	s.observeUnblock(ctx, kind, subject, history.About{})
	s.observeAction(ctx, "lift", subject)
	return nil
}

func (s *Service) liftRange(ctx context.Context, digits string) error {
	who := s.rangeOf(digits)
	if !isMSISDN(digits) {
		return ErrNotBlocked
	}
	return s.units.Update(ctx, store.Names{Records: s.limiter.Keys(who, limit.Range)}, func(rows *store.Rows) error {
		g, err := s.ledger(rows.Records, who, limit.Range)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(g.Blocks(), func(b limits.Block) bool { return b.Range != "" }) {
			return ErrNotBlocked
		}
		g.Clear()
		return g.Put()
	})
}
