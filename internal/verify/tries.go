package verify

import "slices"

// What tokens do to buckets.

// takeTry counts a token that is going to be compared as a wrong one, or returns
// the limit that refuses it. first reports whether it is the first for a token
// that was sent.
func (t *tally) takeTry(first bool) refusal {
	met := t.take(func(e *entry) ([]Limit, *[]int64, int64) {
		_, wrong := t.service.Limits.of(e.scope)
		closed := max(t.wrongMost(e), t.uncheckedFor(e))
		if first && e.scope == scopeNumber {
			_, wait := takeAll(wrong, e.state.Wrong, t.now)
			if max(wait, t.wrongMost(e)) > 0 && t.takeReserveCode(&e.state) {
				return nil, nil, 0
			}
		}
		return wrong, &e.state.Wrong, closed
	})
	if number := t.find(scopeNumber); number != nil && met.wait == 0 {
		number.state.WrongCount++
		number.state.WrongAt, number.changed = t.now, true
	}
	return met
}

// uncheckedFor tells how many milliseconds a client is to wait because a service did
// not check its tokens: they count as no tries, but each is a call to the service.
func (t *tally) uncheckedFor(e *entry) int64 {
	if t.service.Delegate == nil {
		return 0
	}
	return t.failedFor(e)
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
