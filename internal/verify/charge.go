package verify

import (
	"context"
	"math"
	"time"

	"example.com/threepid/store"
)

// What texts do to buckets; tries.go has what tokens do.

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
		return plural(up(time.Second), "second", "seconds")
	case d <= 2*time.Hour:
		return plural(up(time.Minute), "minute", "minutes")
	case d <= 48*time.Hour:
		return plural(up(time.Hour), "hour", "hours")
	default:
		return plural(up(24*time.Hour), "day", "days")
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
	reserve := t.needsReserve()
	met := t.take(func(e *entry) ([]Limit, *[]int64, int64) {
		return t.textLimits(e.scope, reserve), &e.state.Texts, max(t.closedFor(e), t.failedFor(e))
	})
	if met.wait > 0 {
		return met
	}
	if reserve {
		t.takeReserve()
	}
	t.rememberAsked()
	return met
}

// textLimits are the limits that a text takes from in a scope. What it takes from the
// number's reserve, it does not take from the limits that all clients share.
func (t *tally) textLimits(of scope, reserve bool) []Limit {
	texts, _ := t.service.Limits.of(of)
	if of == scopeNumber && reserve {
		return withoutSlow(texts)
	}
	return texts
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

// closedFor tells how many milliseconds the guard keeps a block, a country or a network
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
		reserve := e.scope == scopeNumber && t.returnReserve(&e.state, at)
		e.state.Texts, e.changed = giveBackAll(t.textLimits(e.scope, reserve), e.state.Texts, 1, true, t.now), true
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

// confirm gives the texts of a session back, since its number has validated.
func (t *tally) confirm(texts, clientTexts int) {
	for i := range t.entries {
		e := &t.entries[i]
		n := texts
		switch e.scope {
		case scopeClient, scopeNumberClient, scopeBlockClient:
			n = clientTexts
		case scopeNumber:
			if n > 0 && t.returnReserve(&e.state, 0) {
				n--
				e.changed = true
			}
		case scopeBlock, scopeCountry, scopeAll, scopeNetwork:
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
