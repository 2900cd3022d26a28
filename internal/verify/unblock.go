package verify

import (
	"context"
	"time"

	"example.com/threepid/store"
)

// Block is what keeps SMS from being sent to a number, or its codes from being
// accepted, whichever client asks.
type Block struct {
	Reason  string // for a person
	Range   string // the first digits of the numbers that are blocked with it; empty when it is only this number
	Country string // two letters, when its whole country is blocked
	Until   time.Time
}

// Blocks returns what blocks a number in E.164, and changes nothing.
func (s *Service) Blocks(ctx context.Context, number string) ([]Block, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	n, err := parseE164(number)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	return s.blocks(ctx, n)
}

// Unblock forgets what is held against a number in E.164 and against its range, and
// returns what still blocks it.
func (s *Service) Unblock(ctx context.Context, number string) ([]Block, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.active.Done()
	n, err := parseE164(number)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.Store.Update(ctx, func(tx store.Tx) error {
		t, err := s.tally(tx, s.subject(n, ""), scopeNumber, scopeBlock)
		if err != nil {
			return err
		}
		for i := range t.entries {
			t.entries[i].state, t.entries[i].changed = bucketState{}, true
		}
		return t.put(tx)
	})
	if err != nil {
		return nil, err
	}
	return s.blocks(ctx, n)
}

// blocks returns what blocks a number.
func (s *Service) blocks(ctx context.Context, n Number) (blocks []Block, err error) {
	if _, test := s.testNumber(n.MSISDN); test {
		return nil, nil
	}
	err = s.Store.View(ctx, func(tx store.Tx) error {
		t, err := s.tally(tx, s.subject(n, ""), scopeNumber, scopeBlock, scopeCountry, scopeAll)
		if err != nil {
			return err
		}
		blocks = nil
		for i := range t.entries {
			blocks = append(blocks, t.blocks(&t.entries[i])...)
		}
		return nil
	})
	return blocks, err
}

// blocks returns what one of the buckets blocks.
func (t *tally) blocks(e *entry) (blocks []Block) {
	texts, wrong := t.service.Limits.of(e.scope)
	_, textWait := takeAll(texts, e.state.Texts, t.now)
	_, wrongWait := takeAll(wrong, e.state.Wrong, t.now)
	guard := "guard: few of the numbers that codes were sent to were validated"
	if e.scope == scopeCountry && !e.state.Guard.Shut {
		guard += "; a client that asks for a first number is still served"
	}
	for _, b := range []struct {
		reason string
		wait   int64
	}{
		{"limit on SMS", textWait},
		{"limit on wrong codes", max(wrongWait, t.wrongMost(e))},
		{guard, t.closedFor(e)},
	} {
		if b.wait == 0 {
			continue
		}
		block := Block{Reason: b.reason, Until: time.UnixMilli(t.now + b.wait).UTC()}
		switch e.scope {
		case scopeBlock:
			block.Range = t.subject.block()
		case scopeCountry:
			block.Country = t.subject.country
		case scopeAll:
			block.Reason += " to all numbers"
		case scopeNumber, scopeNumberClient, scopeClient, scopeBlockClient, scopeNetwork:
		}
		blocks = append(blocks, block)
	}
	return blocks
}
