package limit

import (
	"slices"
	"sync"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// Watch judges countries and networks of clients. Requests report events to it. It counts them in
// memory and judges at once, by its own counts and those of other nodes that it has read. Flush
// exchanges counts and verdicts with the other nodes; no request waits for it.
type Watch struct {
	rules

	store store.Counters // nil: this node judges alone
	node  string         // names this node's counts
	now   func() int64

	mu       sync.Mutex
	subjects map[string]*watched
	read     int64 // verdicts were read up to this version
	flushes  int
	flushing sync.Mutex // one Flush at a time
}

// watched is a country, a network, or the whole host.
type watched struct {
	state

	area   area
	name   string  // country, or network for the log
	share  []int64 // levels: of guardShare for a network, of undeliveredInCountry for a country
	others counts  // of the other nodes, in the phase that othersIn names
	hours  counts  // whole hours, of this node
	before counts  // whole hours, of the other nodes

	othersIn string

	reason  string // of the latest block
	version int64  // of the verdict
	unsaved bool   // the verdict is not stored yet
	shared  bool   // other nodes need to know of its counts

	dirty, dirtyHours map[int64]bool // slots and hours that are not stored yet
}

// hostKey is the key of the whole host.
const hostKey = "host"

// NewWatch returns a Watch. node must be unique; counters may be nil.
func NewWatch(g limits.Guard, counters store.Counters, node string, now func() int64) *Watch {
	return &Watch{rules: rules{g}, store: counters, node: node, now: now, subjects: make(map[string]*watched)}
}

// event is something that happened to a number that the guard judges.
type event struct {
	who         Subject
	sent        bool  // an SMS is being sent, and counts
	validatedAt int64 // the number was counted at this time, and is validated
	notSentAt   int64 // the number was counted at this time, and no SMS was sent
	undelivered bool  // with notSentAt: it was sent, but not delivered
}

// Report passes the events of a stored unit of work to the Watch and returns the blocks that
// result.
func (w *Watch) Report(g *Ledger) []limits.Block {
	if g == nil {
		return nil
	}
	blocks := g.blocks
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range g.events {
		blocks = append(blocks, w.record(e, g.now)...)
	}
	return blocks
}

func (w *Watch) record(e event, now int64) []limits.Block {
	country, network := w.subject(areaCountry, e.who, now), w.subject(areaNetwork, e.who, now)
	host := w.subject(areaHost, e.who, now)
	if e.undelivered {
		next, wait := takeAll(undeliveredInCountry(), country.share, now)
		if wait > 0 {
			return nil
		}
		country.share = next
	}
	subjects := []*watched{country, host}
	if network != nil && network.Count > 0 && !w.counts(network, e, now) {
		subjects = nil
	}
	if network != nil {
		subjects = append(subjects, network)
	}
	for _, s := range subjects {
		w.count(s, e, now)
	}
	var blocks []limits.Block
	for _, s := range []*watched{country, network} {
		if s == nil {
			continue
		}
		if b, ok := w.judgeNow(s, now); ok {
			blocks = append(blocks, b)
		}
	}
	return blocks
}

// counts reports whether an event in a network that was blocked before counts for its country. Of
// such a network, no more SMS count than of one client: one network must not block a country, but
// several are noticed. Failures and validations do not count, because their SMS may not have been
// counted.
func (w *Watch) counts(network *watched, e event, now int64) bool {
	if !e.sent {
		return false
	}
	share, wait := takeAll(guardShare(), network.share, now)
	network.share = share
	return wait == 0
}

func (w *Watch) count(s *watched, e event, now int64) {
	at, sent, validated := now, int64(0), int64(0)
	switch {
	case e.sent:
		sent = 1
		by := e.who.askerKey()
		if s.area == areaNetwork {
			by = e.who.clientKey()
		}
		s.state = w.sent(s.state, by, -1, now)
	case e.validatedAt != 0:
		validated = 1
		s.state = w.validated(s.state, -1, e.validatedAt, now)
	case e.notSentAt != 0:
		at, sent = e.notSentAt, -1
		s.state = w.notSent(s.state, -1, at, now)
	default:
		return
	}
	s.touch(w.slot(at), false)
	if s.area == areaNetwork {
		return
	}
	s.hours.add(at/hourSpan, sent, validated)
	s.hours = s.hours[max(0, len(s.hours)-hoursKept):]
	s.touch(at/hourSpan, true)
}

// judgeNow judges a subject and returns its block, if there is a new one.
func (w *Watch) judgeNow(s *watched, now int64) (limits.Block, bool) {
	next, reason := w.judged(s.state, situation{area: s.area, others: s.others, percent: w.percent(s, now), excused: w.excused(s, now)}, now)
	if reason == "" {
		s.state = next
		return limits.Block{}, false
	}
	s.state, s.others, s.unsaved, s.reason = next, nil, true, reason
	s.version = max(now, s.version+1)
	return w.block(s, reason), true
}

func (w *Watch) block(s *watched, reason string) limits.Block {
	b := limits.Block{Reason: reason, Count: s.Count, Until: time.UnixMilli(s.Until).UTC(), DryRun: w.DryRun}
	if s.area == areaNetwork {
		b.Network = s.name
	} else {
		b.Country = s.name
	}
	return b
}

// key returns the key of an area's subject in counters, or an empty string if there is none.
func (who Subject) key(of area) string {
	switch of {
	case areaCountry:
		return "country " + who.Country
	case areaNetwork:
		if who.network() == "" {
			return ""
		}
		return "network " + who.network()
	case areaHost:
		return hostKey
	case areaRange:
	}
	return ""
}

// subject returns the current state of an area's subject, or nil if there is none.
func (w *Watch) subject(of area, who Subject, now int64) *watched {
	key := who.key(of)
	if key == "" {
		return nil
	}
	s := w.subjects[key]
	if s == nil {
		s = &watched{area: of}
		w.subjects[key] = s
	}
	switch of {
	case areaCountry:
		s.name = who.Country
	case areaNetwork:
		if who.Prefix != "" {
			s.name = who.Prefix
		}
	case areaRange, areaHost:
	}
	s.state = w.current(s.state, now)
	if s.othersIn != s.phase(key, now) {
		s.others = nil // like this node's own counts of another phase
	}
	first := w.slot(now) - slotsPerWindow + 1
	s.others = slices.DeleteFunc(s.others, func(part slot) bool { return part[0] < first })
	return s
}

// blocked returns for how long the subject's country and network stay blocked, in milliseconds.
// mayAsk is whether a country that is not blocked for all is open to the client.
func (w *Watch) blocked(who Subject, mayAsk bool, now int64) Refusal {
	w.mu.Lock()
	defer w.mu.Unlock()
	var met Refusal
	if network := w.subject(areaNetwork, who, now); network != nil {
		met.meet("guard: network", network.blockedFor(now))
	}
	if country := w.subject(areaCountry, who, now); country.BlockedForAll || !mayAsk {
		met.meet("guard: country", country.blockedFor(now))
	}
	return met
}

// blocks returns the blocks of the subject's country, unless it is open to the client,
// and network.
func (w *Watch) blocks(who Subject, mayAsk bool, now int64) []limits.Block {
	w.mu.Lock()
	defer w.mu.Unlock()
	var blocks []limits.Block
	for _, of := range []area{areaCountry, areaNetwork} {
		s := w.subject(of, who, now)
		if s == nil || s.blockedFor(now) == 0 || of == areaCountry && mayAsk && !s.BlockedForAll {
			continue
		}
		blocks = append(blocks, w.block(s, ""))
	}
	return blocks
}

// countryBlockedSince reports whether a block has ended the country's counts of a time.
func (w *Watch) countryBlockedSince(who Subject, at, now int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.subject(areaCountry, who, now).blockedSince(at, now)
}

// outage reports whether few SMS of the whole host validate although it sends no more than usual:
// then the provider does not deliver them.
func (w *Watch) outage(now int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hostFails(now)
}
