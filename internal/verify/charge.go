package verify

import (
	"context"
	"math"
	"slices"
	"time"

	"example.com/threepid/store"
)

// What texts and tokens do to buckets.

// textScopes are the scopes that a text counts in.
func textScopes() []scope {
	return []scope{scopeNumber, scopeNumberClient, scopeClient, scopeBlockClient, scopeBlock, scopeCountry, scopeAll, scopeNetwork}
}

// wrongScopes are the scopes that a wrong token counts in.
func wrongScopes() []scope { return []scope{scopeNumber, scopeNumberClient, scopeClient} }

// refusal says which limit was reached, and for how long.
type refusal struct {
	scope scope
	wait  int64 // milliseconds; 0: none was reached
}

func (r *refusal) meet(of scope, wait int64) {
	if wait > r.wait {
		r.scope, r.wait = of, wait
	}
}

// err is what the client is told: nothing that depends on whose number it is,
// nor which of the limits it met.
func (r refusal) err() error {
	e := Errorf(Limited, "Too many requests. Try again in %s.", humanly(time.Duration(r.wait)*time.Millisecond))
	e.RetryAfter = time.Duration(r.wait) * time.Millisecond
	return e
}

// humanly rounds up to what a person says.
func humanly(d time.Duration) string {
	up := func(unit time.Duration) int { return int(math.Ceil(float64(d) / float64(unit))) }
	switch {
	case d <= time.Second:
		return "a second"
	case d <= time.Minute:
		return plural(up(time.Second), "second")
	case d <= 2*time.Hour:
		return plural(up(time.Minute), "minute")
	case d <= 48*time.Hour:
		return plural(up(time.Hour), "hour")
	default:
		return plural(up(24*time.Hour), "day")
	}
}

// take takes one from the limits of every bucket, or from none. of tells a
// bucket's limits, where their levels are kept, nil for a bucket that is to be left
// alone, and for how long it is closed in any case, in milliseconds.
func (t *tally) take(of func(*entry) (limits []Limit, levels *[]int64, closed int64)) refusal {
	var met refusal
	levels, next := make([]*[]int64, len(t.entries)), make([][]int64, len(t.entries))
	for i := range t.entries {
		e := &t.entries[i]
		limits, kept, closed := of(e)
		if kept == nil {
			continue
		}
		var wait int64
		next[i], wait = takeAll(limits, *kept, t.now)
		levels[i] = kept
		met.meet(e.scope, wait)
		met.meet(e.scope, closed)
	}
	if met.wait > 0 {
		return met
	}
	for i := range t.entries {
		if levels[i] != nil {
			*levels[i], t.entries[i].changed = next[i], true
		}
	}
	return refusal{}
}

// takeText takes one text from every bucket, or from none.
func (t *tally) takeText() refusal {
	met := t.take(func(e *entry) ([]Limit, *[]int64, int64) {
		texts, _ := t.service.Limits.of(e.scope)
		return texts, &e.state.Texts, max(t.closedFor(e), t.failedFor(e))
	})
	if met.wait == 0 {
		t.rememberAsked()
	}
	return met
}

// rememberAsked keeps the number as the one that its client asked for. It takes
// the place of none in another country, or who asks for a number there and has it
// validate or fail would be let into a closed country again and again.
func (t *tally) rememberAsked() {
	client := t.find(scopeClient)
	if client == nil || !t.subject.guarded {
		return
	}
	s := &client.state
	if t.asked(s) != "" && (s.Asked == t.subject.name() || s.AskedIn != t.subject.country) {
		return
	}
	s.Asked, s.AskedIn, s.AskedAt = t.subject.name(), t.subject.country, t.now
}

// asked is the number that a client asked for in the last day and that is not
// confirmed, if any.
func (t *tally) asked(client *bucketState) string {
	if client.AskedAt <= t.now-askedMemory.Milliseconds() {
		return ""
	}
	return client.Asked
}

// closedFor tells how many milliseconds the guard keeps a block or a country
// closed to the subject.
//
// A closed country is still open to clients of which nothing is known but that
// they ask for this one number: an attacker has so many of them, while nearly
// all honest people are such a client.
func (t *tally) closedFor(e *entry) int64 {
	if !t.subject.guarded || t.service.Guard.Observe {
		return 0
	}
	guard := t.service.Guard.current(e.state.Guard, t.now)
	if client := t.find(scopeClient); e.scope == scopeCountry && client != nil && !guard.Shut {
		if asked := t.asked(&client.state); asked == "" || asked == t.subject.name() {
			return 0
		}
	}
	return guard.closedFor(t.now)
}

// failedFor tells how many milliseconds a client is to wait because of texts that
// did not leave.
func (t *tally) failedFor(e *entry) int64 {
	if e.scope != scopeClient {
		return 0
	}
	_, wait := takeAll(t.service.Limits.Failed, e.state.Failed, t.now)
	return wait
}

// takeRetry takes a further try of a text that may have left: it is paid for, but a
// provider that does not know it again texts it again.
func (t *tally) takeRetry() refusal {
	return t.take(func(e *entry) ([]Limit, *[]int64, int64) {
		if e.scope != scopeClient && e.scope != scopeNumber {
			return nil, nil, 0
		}
		return t.service.Limits.Failed, &e.state.Failed, 0
	})
}

// countFailed remembers of the client that a text did not leave.
func (t *tally) countFailed() {
	if client := t.find(scopeClient); client != nil {
		client.state.Failed, _ = takeAll(t.service.Limits.Failed, client.state.Failed, t.now)
		client.changed = true
	}
}

// forgetAsked is what a client's number that has validated does, or one that was
// not texted at all.
func (t *tally) forgetAsked() {
	if client := t.find(scopeClient); client != nil && client.state.Asked == t.subject.name() {
		client.state.Asked, client.state.AskedIn, client.state.AskedAt, client.changed = "", "", 0, true
	}
}

// returnText takes back what takeText did at a time, for a text that did not
// leave.
func (t *tally) returnText(counted bool, at int64) {
	for i := range t.entries {
		e := &t.entries[i]
		texts, _ := t.service.Limits.of(e.scope)
		e.state.Texts, e.changed = giveBackAll(texts, e.state.Texts, 1, true, t.now), true
	}
	if client := t.find(scopeClient); client != nil && client.state.AskedAt == at {
		t.forgetAsked()
	}
	number := t.find(scopeNumber)
	if !counted || number == nil || number.state.Counted != at {
		return
	}
	number.state.Counted = 0
	if client := t.find(scopeClient); client != nil {
		// Or who first asks for numbers that are rejected is noticed no more.
		client.state.Share = giveBackAll(guardShare(), client.state.Share, 1, true, t.now)
	}
	t.eachGuard(func(e *entry, suffix int64) bool {
		e.state.Guard = t.service.Guard.notTexted(e.state.Guard, suffix, at, t.now)
		return true
	})
}

// notice has the guards count the number, unless they did lately or the client
// has had its share; it tells whether they did. They judge in either case: what is
// counted may look worse by now, though nobody comes who still has a share.
func (t *tally) notice() (counted bool) {
	counted = t.takeShare()
	g := t.service.Guard
	t.eachGuard(func(e *entry, suffix int64) bool {
		s := g.current(e.state.Guard, t.now)
		if g.Observe && s.closedFor(t.now) > 0 {
			return false
		}
		if counted {
			s = g.texted(s, suffix, t.now)
		}
		s, reason := g.judged(s, e.scope, t.now)
		if counted || reason != "" {
			e.state.Guard = s
		}
		if reason != "" {
			t.closed = append(t.closed, t.closing(e, reason))
		}
		return counted || reason != ""
	})
	return counted
}

// takeShare tells whether the number is to be counted, and takes it from the
// client's share.
func (t *tally) takeShare() bool {
	number, client := t.find(scopeNumber), t.find(scopeClient)
	if !t.subject.guarded || number == nil || t.counted(number) {
		return false
	}
	if client != nil {
		share, wait := takeAll(guardShare(), client.state.Share, t.now)
		if wait > 0 {
			return false
		}
		client.state.Share, client.changed = share, true
	}
	number.state.Counted, number.state.Confirmed, number.changed = t.now, false, true
	return true
}

// closing is what the operator is told of a bucket that was closed.
func (t *tally) closing(e *entry, reason string) Closing {
	c := Closing{
		Country: t.subject.country, Reason: reason, Times: e.state.Guard.Strikes,
		Until: time.UnixMilli(e.state.Guard.Until).UTC(), Observed: t.service.Guard.Observe,
	}
	switch e.scope {
	case scopeBlock:
		c.Block = t.subject.block()
	case scopeNetwork:
		c.Country, c.Network = "", t.subject.prefix
	case scopeNumber, scopeNumberClient, scopeClient, scopeBlockClient, scopeCountry, scopeAll:
	}
	return c
}

// counted tells whether the guards know of the number: each counts a number once
// in its window, however often it is texted, and anew after a closing.
func (t *tally) counted(number *entry) bool {
	for _, of := range []scope{scopeBlock, scopeCountry} {
		if e := t.find(of); e != nil && e.state.Guard.closedSince(number.state.Counted, t.now) {
			return false
		}
	}
	return t.countedLately(number)
}

func (t *tally) countedLately(number *entry) bool {
	at := number.state.Counted
	return at > t.now-t.service.Guard.Window.Milliseconds() && at <= t.now
}

// eachGuard calls fn for the block, with the number's place in it, and for the
// country and the client's network, for which that is negative. fn tells whether it
// has changed something.
//
// What a network that was closed goes on to ask for is its own affair: it closes
// no country, nor shuts one to newcomers from elsewhere.
func (t *tally) eachGuard(fn func(e *entry, suffix int64) (changed bool)) {
	network := t.find(scopeNetwork)
	closedBefore := network != nil && t.service.Guard.current(network.state.Guard, t.now).Strikes > 0
	for _, of := range []scope{scopeBlock, scopeCountry, scopeNetwork} {
		if e := t.find(of); e != nil && t.subject.guarded && !(of == scopeCountry && closedBefore) {
			suffix := int64(-1)
			if of == scopeBlock {
				suffix = t.subject.suffix()
			}
			e.changed = fn(e, suffix) || e.changed
		}
	}
}

// confirm gives the texts of a session back, since its number has validated.
func (t *tally) confirm(texts, clientTexts int) {
	for i := range t.entries {
		e := &t.entries[i]
		n := texts
		switch e.scope {
		case scopeClient, scopeNumberClient, scopeBlockClient:
			n = clientTexts
		case scopeNumber, scopeBlock, scopeCountry, scopeAll, scopeNetwork:
		}
		limits, _ := t.service.Limits.of(e.scope)
		e.state.Texts = giveBackAll(limits, e.state.Texts, n, false, t.now)
		e.changed = e.changed || n > 0
	}
	t.forgetAsked()
	number := t.find(scopeNumber)
	if number == nil || !t.countedLately(number) || number.state.Confirmed {
		return
	}
	number.state.Confirmed, number.changed = true, true
	t.eachGuard(func(e *entry, suffix int64) bool {
		e.state.Guard = t.service.Guard.validated(e.state.Guard, suffix, number.state.Counted, t.now)
		return true
	})
}

// takeTry counts a token that is going to be compared as a wrong one, or says
// that no more may be.
func (t *tally) takeTry() refusal {
	met := t.take(func(e *entry) ([]Limit, *[]int64, int64) {
		_, wrong := t.service.Limits.of(e.scope)
		return wrong, &e.state.Wrong, t.wrongMost(e)
	})
	if number := t.find(scopeNumber); number != nil && met.wait == 0 {
		number.state.WrongCount++
		number.state.WrongAt = t.now
	}
	return met
}

// returnTry takes back what takeTry did.
func (t *tally) returnTry() {
	for i := range t.entries {
		e := &t.entries[i]
		_, wrong := t.service.Limits.of(e.scope)
		e.state.Wrong, e.changed = giveBackAll(wrong, e.state.Wrong, 1, true, t.now), true
	}
	if number := t.find(scopeNumber); number != nil {
		number.state.WrongCount = max(0, number.state.WrongCount-1)
	}
}

// wrongMost tells how long a number that has had as many wrong tokens as it
// bears is to be left alone, in milliseconds.
func (t *tally) wrongMost(e *entry) int64 {
	if e.scope != scopeNumber {
		return 0
	}
	s := &e.state
	s.WrongAt = min(s.WrongAt, t.now) // the clock may have been set back
	left := s.WrongAt + wrongMemory.Milliseconds() - t.now
	if left <= 0 {
		s.WrongCount = 0
	}
	if most := t.service.Limits.WrongMost; most == 0 || s.WrongCount < most {
		return 0
	}
	return left
}

// forgetTries is what the right token does in some of the scopes: the wrong ones
// of its number no longer count, nor does the one that it was counted as for its
// client.
func (t *tally) forgetTries(scopes ...scope) {
	for i := range t.entries {
		e := &t.entries[i]
		if !slices.Contains(scopes, e.scope) {
			continue
		}
		_, wrong := t.service.Limits.of(e.scope)
		switch e.scope {
		case scopeNumber, scopeNumberClient:
			e.state.Wrong, e.state.WrongCount, e.state.WrongAt = nil, 0, 0
			e.changed = true
		case scopeClient:
			e.state.Wrong = giveBackAll(wrong, e.state.Wrong, 1, true, t.now)
			e.changed = true
		case scopeBlockClient, scopeBlock, scopeCountry, scopeAll, scopeNetwork:
		}
	}
}

// Closing tells the operator that the guard has closed a block of numbers or a
// country, or would have if it did not only observe.
type Closing struct {
	Country  string // empty when a network is closed
	Block    string // E.164 without the plus sign, less the last four digits; empty when all of the country is closed
	Network  string // of the clients that are refused; empty when numbers are closed
	Reason   string
	Times    int // how often by now
	Until    time.Time
	Observed bool // nothing was closed: the guard only observes
}

// words say for the log what was closed, and what opens it.
func (c Closing) words() string {
	what, remedy := "a country", "Guard.Allow keeps one open"
	switch {
	case c.Network != "":
		what, remedy = "a network of clients", "it opens by itself"
	case c.Block != "":
		what, remedy = "a block of numbers", "Plugin.Pardon opens it"
	}
	if c.Observed {
		return "threepid: the guard would close " + what + " to texts, but only observes"
	}
	return "threepid: the guard has closed " + what + " to texts; " + remedy
}

// tell reports what a unit of work has closed, once it is kept.
func (s *Service) tell(t *tally) {
	for _, c := range t.closed {
		s.Logger.Warn(c.words(), "country", c.Country, "block", c.Block, "network", c.Network,
			"reason", c.Reason, "times", c.Times, "until", c.Until, "observed", c.Observed)
		if s.OnClosing != nil {
			s.OnClosing(c)
		}
	}
}

// ask does to the buckets what do does, keeps nothing of it, and returns what
// the client is refused with: so a flood of refused requests never takes the
// write lock.
func (s *Service) ask(ctx context.Context, who subject, scopes []scope, do func(*tally) refusal) error {
	if !s.limited(who, scopes) {
		return nil
	}
	var met refusal
	ctx, cancel := bounded(ctx)
	defer cancel()
	err := s.Store.View(ctx, func(tx store.Tx) error {
		t, err := s.tally(tx, who, scopes...)
		if err != nil {
			return err
		}
		met = do(t)
		return nil
	})
	if err != nil {
		return err
	}
	return s.refused(met, who)
}

// limited tells whether anything is counted in one of the scopes.
func (s *Service) limited(who subject, scopes []scope) bool {
	for _, of := range scopes {
		if s.counts(of, who) {
			return true
		}
	}
	return false
}

// refused is the error of a refusal, nil if there was none.
func (s *Service) refused(met refusal, who subject) error {
	if met.wait == 0 {
		return nil
	}
	s.Logger.Info("threepid: a limit is reached", "scope", string(met.scope), "number", Mask(who.msisdn),
		"country", who.country, "wait", (time.Duration(met.wait) * time.Millisecond).Round(time.Second))
	return met.err()
}

// Pardon forgets what is held against a number, in E.164, and against its block.
func (s *Service) Pardon(ctx context.Context, number string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.active.Done()
	n, err := ParseNumber(number, "", false)
	if err != nil {
		return err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	return s.Store.Update(ctx, func(tx store.Tx) error {
		t, err := s.tally(tx, s.subject(n, ""), scopeNumber, scopeBlock)
		if err != nil {
			return err
		}
		for i := range t.entries {
			t.entries[i].state, t.entries[i].changed = bucketState{}, true
		}
		return t.put(tx)
	})
}
