package verify

import "slices"

// What tokens do to buckets.

// takeTry counts a token that is going to be compared as a wrong one, or says
// that no more may be.
func (t *tally) takeTry() refusal {
	met := t.take(func(e *entry) ([]Limit, *[]int64, int64) {
		_, wrong := t.service.Limits.of(e.scope)
		return wrong, &e.state.Wrong, max(t.wrongMost(e), t.uncheckedFor(e))
	})
	if number := t.find(scopeNumber); number != nil && met.wait == 0 {
		number.state.WrongCount++
		number.state.WrongAt = t.now
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
