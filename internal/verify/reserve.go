package verify

import (
	"strings"
	"time"
)

// All clients share the limits on a number, so a few clients that never give up use
// them up. The reserve is what they cannot use up: a client that has taken nothing
// from it lately gets one SMS when a slow limit on the number refuses it, and the first
// code that is typed for an accepted SMS is compared. Both are limited for the
// number, so that any number of clients gets a bounded number of SMS and guesses.

const (
	// reserveMemory is how long a client that took from a number's reserve gets
	// nothing more from it.
	reserveMemory = 7 * 24 * time.Hour

	// maxReserved is how many clients a number's record remembers. The default
	// reserve lets fewer take from it in reserveMemory.
	maxReserved = 40

	// reservePasses is the least Per of a limit that the reserve passes. A client that
	// a faster one refuses need not wait long; and with it, a number receives no more
	// SMS at one instant than without the reserve.
	reservePasses = time.Hour
)

// reserveName is the client as a number's reserve knows it: of IPv6 clients the
// network, since one customer may have all of it.
func (s subject) reserveName() string {
	const length = 12
	name := s.client
	if _, network, ok := strings.Cut(name, ipv6Mark); ok {
		name = network
	}
	return name[:min(len(name), length)]
}

// needsReserve reports whether a text is to be taken from the number's reserve: only
// slow limits on the number refuse it, and the reserve does not.
func (t *tally) needsReserve() bool {
	number := t.find(scopeNumber)
	if number == nil || t.subject.client == "" || len(t.service.Limits.Reserve) == 0 {
		return false
	}
	texts := t.service.Limits.Number
	if _, wait := takeAll(texts, number.state.Texts, t.now); wait == 0 {
		return false
	}
	if _, wait := takeAll(withoutSlow(texts), number.state.Texts, t.now); wait > 0 {
		return false
	}
	known := t.reserved(&number.state)
	if until, ok := known[t.subject.reserveName()]; ok && until > t.now || len(known) >= maxReserved {
		return false
	}
	_, wait := takeAll(t.service.Limits.Reserve, number.state.Reserve, t.now)
	return wait == 0
}

// reserved returns the clients that took from the number's reserve lately, and until when
// that is remembered.
func (t *tally) reserved(number *bucketState) map[string]int64 {
	known := make(map[string]int64, len(number.Reserved)+1)
	for name, until := range number.Reserved {
		if until > t.now && until <= t.now+(reserveMemory+clockSlack).Milliseconds() {
			known[name] = until
		}
	}
	return known
}

// takeReserve takes a text from the number's reserve. needsReserve precedes it.
func (t *tally) takeReserve() {
	s := &t.find(scopeNumber).state
	s.Reserve, _ = takeAll(t.service.Limits.Reserve, s.Reserve, t.now)
	s.Reserved = t.reserved(s)
	s.Reserved[t.subject.reserveName()] = t.now + reserveMemory.Milliseconds()
}

// returnReserve gives the client's text back to the number's reserve, and reports
// whether there was one: taken at that time, or at any time if at is 0.
func (t *tally) returnReserve(number *bucketState, at int64) bool {
	known := t.reserved(number)
	until, ok := known[t.subject.reserveName()]
	if !ok || at != 0 && until != at+reserveMemory.Milliseconds() {
		return false
	}
	delete(known, t.subject.reserveName())
	number.Reserved = known
	number.Reserve = giveBackAll(t.service.Limits.Reserve, number.Reserve, 1, true, t.now)
	return true
}

// takeReserveCode reports whether a code is compared although the limits on wrong
// codes for the number refuse it.
func (t *tally) takeReserveCode(number *bucketState) bool {
	if len(t.service.Limits.ReserveCodes) == 0 {
		return false
	}
	next, wait := takeAll(t.service.Limits.ReserveCodes, number.ReserveCodes, t.now)
	number.ReserveCodes = next
	return wait == 0
}
