package limit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/store"
)

const (
	// leaseParts is how many parts of a budget's Burst the nodes may hold in total. A budget with
	// fewer SMS than leaseParts for each node is leased one SMS at a time.
	leaseParts = 20

	// askAgain is how long a node refuses without asking after the store has refused a lease.
	askAgain = time.Second
)

// Budgets spend the limits that all SMS of a country, or of the host, share. If each request took
// its SMS from the budget's row, all requests would contend for that row. Instead, a node leases
// several SMS in a unit of work of its own, and requests spend them in memory.
//
// An SMS is charged when it is leased. It may be sent until the lease ends, which is checked
// immediately before the provider is called. Only the node that holds it can give it back, and only
// before the lease ends. SMS that a node holds when it dies stay charged. So in any span of time,
// the nodes send at most Burst, one for each Every in the span, and the SMS that they held when it
// began.
type Budgets struct {
	limits limits.Limits
	store  store.Store
	node   string // the name of this node's leases
	span   time.Duration
	now    func() int64

	mu     sync.Mutex
	shares map[store.Key]*share
}

// share is what a node holds of one budget.
type share struct {
	who     Subject
	kind    Kind
	limits  []limits.Limit
	leasing chan struct{} // holds a value while a unit of work runs

	size      int   // SMS per lease
	left      int   // SMS that may be sent, at most size
	until     int64 // the end of their lease
	notSent   int   // SMS of earlier leases that were not sent
	validated int   // SMS to be given back because their numbers validated

	refusedUntil int64 // until then, this node refuses without asking
	freeAt       int64 // until then, nothing is left
}

// Grant is one SMS of each budget that applies to it.
type Grant []granted

type granted struct {
	share *share
	until int64
}

// NewBudgets returns Budgets. node must be unique. A lease lasts for span, which must be longer
// than sending an SMS takes.
func NewBudgets(l limits.Limits, st store.Store, node string, span time.Duration, now func() int64) *Budgets {
	return &Budgets{limits: l, store: st, node: node, span: span, now: now, shares: make(map[store.Key]*share)}
}

// Take takes one SMS from each budget, or from none. An error means that the store
// failed. A caller that does not send the SMS must Return it.
func (b *Budgets) Take(ctx context.Context, who Subject) (Grant, Refusal, error) {
	var grant Grant
	var met Refusal
	for _, s := range b.sharesOf(who) {
		until, wait, err := b.takeOne(ctx, s)
		if err != nil {
			b.Return(grant)
			return nil, Refusal{}, err
		}
		if met.meet(string(s.kind), wait); wait == 0 {
			grant = append(grant, granted{s, until})
		}
	}
	if met.Wait > 0 {
		b.Return(grant)
		return nil, met, nil
	}
	return grant, Refusal{}, nil
}

// sharesOf returns the shares of the budgets that apply to an SMS to the subject.
func (b *Budgets) sharesOf(who Subject) []*share {
	if who.MSISDN == "" {
		return nil
	}
	var all []*share
	for kind, list := range b.budgets() {
		if len(list) == 0 {
			continue
		}
		b.mu.Lock()
		s := b.shares[who.Key(kind)]
		if s == nil {
			s = &share{who: Subject{Country: who.Country}, kind: kind, limits: list, leasing: make(chan struct{}, 1)}
			b.shares[who.Key(kind)] = s
		}
		b.mu.Unlock()
		all = append(all, s)
	}
	return all
}

// budgets yields the kinds of budgets and their limits.
func (b *Budgets) budgets() func(yield func(Kind, []limits.Limit) bool) {
	return func(yield func(Kind, []limits.Limit) bool) {
		_ = yield(Country, b.limits.PerCountry) && yield(Global, b.limits.Global)
	}
}

// takeOne takes one SMS from a share, and leases more if nothing is left.
func (b *Budgets) takeOne(ctx context.Context, s *share) (until, wait int64, err error) {
	for {
		if until, wait = b.spend(s); until+wait > 0 {
			return until, wait, nil
		}
		select {
		case s.leasing <- struct{}{}:
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		}
		if until, wait = b.spend(s); until+wait == 0 { // nobody has leased in the meantime
			err = b.exchange(ctx, s, true)
		}
		<-s.leasing
		if err != nil || until+wait > 0 {
			return until, wait, err
		}
	}
}

// spend takes one SMS that is left, or returns how long to wait. It returns zeros if the store must
// be asked.
func (b *Budgets) spend(s *share) (until, wait int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	switch {
	case s.left > 0 && s.until > now:
		s.left--
		return s.until, 0
	case s.refusedUntil > now && s.refusedUntil <= now+askAgain.Milliseconds():
		return 0, max(1, s.freeAt-now)
	}
	return 0, 0
}

// Valid reports whether an SMS may be sent now.
func (b *Budgets) Valid(grant Grant) bool {
	now := b.now()
	return !slices.ContainsFunc(grant, func(g granted) bool { return g.until <= now })
}

// Return gives back an SMS that was not sent.
func (b *Budgets) Return(grant Grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for _, g := range grant {
		switch {
		case g.until <= now: // it stays charged
		case g.until == g.share.until && g.share.left < g.share.size:
			g.share.left++
		default: // of an earlier lease, or more than a node may hold
			g.share.notSent++
		}
		g.share.refusedUntil = 0
	}
}

// Validated gives back n SMS to a number that has been validated. Limits with CountValidated do not
// give them back.
func (b *Budgets) Validated(who Subject, n int) {
	if n == 0 {
		return
	}
	for _, s := range b.sharesOf(who) {
		b.mu.Lock()
		s.validated += n
		s.refusedUntil = 0
		b.mu.Unlock()
	}
}

// Flush gives back what this node does not need: SMS whose numbers were validated or that were not
// sent, and those of leases that end soon. With all set, it gives back everything.
func (b *Budgets) Flush(ctx context.Context, all bool) error {
	b.mu.Lock()
	shares := slices.Collect(maps.Values(b.shares))
	b.mu.Unlock()
	for _, s := range shares {
		b.mu.Lock()
		now := b.now()
		idle := s.left > 0 && (all || s.until-now < b.span.Milliseconds()/2)
		due := idle || s.validated+s.notSent > 0
		s.refusedUntil = 0
		b.mu.Unlock()
		if !due {
			continue
		}
		select {
		case s.leasing <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		err := b.exchange(ctx, s, false)
		<-s.leasing
		if err != nil {
			return err
		}
	}
	return nil
}

// budget is the state in a budget's record.
type budget struct {
	Levels  []int64           `json:"t,omitempty"` // of the limits
	Holders map[string]holder `json:"h,omitempty"` // by node
}

// holder is a node that holds a lease.
type holder struct {
	Until    int64  `json:"u"`
	Exchange string `json:"x"` // the last exchange that is stored
}

// exchange gives back everything that a share holds and, if more is set, leases again. If it fails,
// the SMS that it would have given back stay charged.
func (b *Budgets) exchange(ctx context.Context, s *share, more bool) error {
	key := Subject{Country: s.who.Country}.Key(s.kind)
	x := exchange{node: b.node, id: rand.Text(), span: b.span.Milliseconds(), limits: s.limits, more: more}
	b.mu.Lock()
	if s.until > b.now() {
		x.notSent = s.left + s.notSent
	}
	x.validated = s.validated
	s.left, s.notSent, s.validated = 0, 0, 0
	b.mu.Unlock()
	err := b.store.Update(ctx, store.Names{Records: []store.Key{key}}, func(rows *store.Rows) error {
		return x.run(&rows.Records[0], b.now())
	})
	if err != nil {
		return fmt.Errorf("threepid: lease SMS of the %s budget: %w", s.kind, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.size, s.left, s.until = x.sizeNow, x.got, x.until
	if more && x.got == 0 {
		now := b.now()
		s.freeAt, s.refusedUntil = now+x.wait, now+min(x.wait, askAgain.Milliseconds())
	}
	return nil
}

// exchange is a unit of work on a budget's record, and its result.
type exchange struct {
	node, id           string
	span               int64
	limits             []limits.Limit
	notSent, validated int
	more               bool

	got, sizeNow int
	until, wait  int64
}

// run changes the record. It may run again after its result was stored.
func (x *exchange) run(row *store.Record, now int64) error {
	var kept budget
	if row.State != "" && row.ExpiresAt > now && json.Unmarshal([]byte(row.State), &kept) != nil {
		kept = budget{} // damaged: start from zero
	}
	if kept.Holders[x.node].Exchange == x.id {
		return nil
	}
	maps.DeleteFunc(kept.Holders, func(node string, h holder) bool { return node == x.node || h.Until <= now })
	levels := giveBackAll(x.limits, kept.Levels, x.notSent, true, now)
	levels = giveBackAll(x.limits, levels, x.validated, false, now)
	x.got, x.wait, x.until, x.sizeNow = 0, 0, 0, x.size(len(kept.Holders)+1)
	for x.more && x.got < x.sizeNow {
		next, wait := takeAll(x.limits, levels, now)
		if wait > 0 {
			x.wait = wait
			break
		}
		levels = next
		x.got++
	}
	if x.got+x.notSent+x.validated == 0 {
		return nil // nothing changes
	}
	kept.Levels = levels
	if kept.Holders == nil {
		kept.Holders = make(map[string]holder)
	}
	if x.got > 0 {
		x.until = now + x.span
	}
	kept.Holders[x.node] = holder{Until: max(x.until, now), Exchange: x.id}
	text, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("threepid: write a budget: %w", err)
	}
	row.State, row.ExpiresAt = string(text), max(slices.Max(levels), x.until)+x.span
	return nil
}

// size returns the SMS per lease when that many nodes hold leases.
func (x *exchange) size(nodes int) int {
	burst := slices.MinFunc(x.limits, func(a, b limits.Limit) int { return a.Burst - b.Burst }).Burst
	return max(1, burst/(leaseParts*nodes))
}

// Keys returns the keys of the budgets' records that Holds needs.
func (b *Budgets) Keys(who Subject) []store.Key {
	var keys []store.Key
	for _, s := range b.sharesOf(who) {
		keys = append(keys, who.Key(s.kind))
	}
	return keys
}

// Holds returns the budgets that refuse an SMS to the subject's number. records are those
// of Keys.
func (b *Budgets) Holds(who Subject, records []store.Record) []limits.Block {
	var blocks []limits.Block
	for i, s := range b.sharesOf(who) {
		var kept budget
		now := b.now()
		if records[i].ExpiresAt <= now || json.Unmarshal([]byte(records[i].State), &kept) != nil {
			continue
		}
		b.mu.Lock()
		held := s.validated + s.notSent
		if s.until > now {
			held += s.left
		}
		b.mu.Unlock()
		_, wait := takeAll(s.limits, kept.Levels, now)
		if wait == 0 || held > 0 {
			continue
		}
		block := limits.Block{Reason: "limit on SMS", Country: s.who.Country, Until: time.UnixMilli(now + wait).UTC()}
		if s.kind == Global {
			block.Reason, block.Country = "limit on SMS to all numbers", ""
		}
		blocks = append(blocks, block)
	}
	return blocks
}
