package limit

import (
	"slices"
	"time"

	"example.com/threepid/limits"
)

// How SMS change records. For codes, see codes.go.

// SMSKinds are the kinds of records to which an SMS is charged, except budgets.
func SMSKinds() []Kind { return []Kind{Number, Client, Range} }

// All clients share the limits on a number, so a few persistent clients could use them up. The
// reserve protects the others. A client that has not used it recently gets one SMS although a slow
// limit on the number refuses it, and the first code that is submitted for an accepted SMS is
// compared in any case. Both are limited by number, so SMS and guesses stay bounded for any number
// of clients.
const (
	// reserveMemory is how long a client that has used a number's reserve gets nothing more from
	// it.
	reserveMemory = 7 * 24 * time.Hour

	// reservePasses is the shortest Every of a limit that the reserve passes. A client that a
	// faster limit refuses does not wait long. Because the faster limits apply, a number receives
	// no more SMS at one instant than without the reserve.
	reservePasses = time.Hour
)

// Refusal is the limit that was reached, and how long to wait. The zero value means none.
type Refusal struct {
	Scope string
	Wait  int64 // milliseconds
	Guard bool  // the guard refuses; a trusted request passes
}

func (r *Refusal) meet(scope string, wait int64) {
	if wait > r.Wait {
		r.Scope, r.Wait = scope, wait
	}
}

// meter is the limits of one scope, and where their levels are stored.
type meter struct {
	scope  string
	entry  *entry
	limits []limits.Limit
	levels []int64
	put    func([]int64)
}

// takeFrom takes one from each limit of each meter, or from none.
func takeFrom(meters []meter, now int64) Refusal {
	var met Refusal
	next := make([][]int64, len(meters))
	for i, m := range meters {
		var wait int64
		next[i], wait = takeAll(m.limits, m.levels, now)
		met.meet(m.scope, wait)
	}
	if met.Wait > 0 {
		return met
	}
	for i, m := range meters {
		m.put(next[i])
		m.entry.changed = true
	}
	return Refusal{}
}

// own returns a meter for levels in a record.
func own(scope string, e *entry, list []limits.Limit, levels *[]int64) meter {
	return meter{scope, e, list, *levels, func(next []int64) { *levels = next }}
}

// smsMeters returns the meters to which an SMS is charged. An SMS from the reserve passes the slow
// limits of the number.
func (g *Ledger) smsMeters(reserve bool) []meter {
	var all []meter
	lim := &g.Limits
	for _, e := range g.entries {
		switch e.kind {
		case Number:
			list := lim.PerNumber
			if reserve {
				list = withoutSlow(list)
			}
			all = append(all, own("number", e, list, &e.SMS))
			if g.who.Client != "" {
				all = append(all, g.member("number and client", e, 1, lim.PerNumberAndClient))
			}
		case Client:
			all = append(all, own("client", e, lim.PerClient, &e.SMS), g.rangeMeter(e))
		case Range:
			all = append(all, own("range", e, lim.PerRange, &e.SMS))
		case Country, Global: // see Budgets
		}
	}
	return all
}

// member returns a meter for the client's levels in a number's table, starting at index first.
func (g *Ledger) member(scope string, e *entry, first int, list []limits.Limit) meter {
	key := g.who.clientKey()
	levels := e.Clients[key]
	return meter{scope, e, list, levels[min(first, len(levels)):], func(next []int64) {
		all := slices.Grow(slices.Clone(e.Clients[key]), first+len(next))
		for len(all) < first+len(next) {
			all = append(all, 0)
		}
		copy(all[first:], next)
		e.Clients = e.Clients.set(key, all, g.now)
	}}
}

// rangeMeter returns a meter for the range's levels in a client's table.
func (g *Ledger) rangeMeter(e *entry) meter {
	key := g.who.rangeKey()
	return meter{"range and client", e, g.Limits.PerRangeAndClient, e.Ranges[key], func(next []int64) {
		e.Ranges = e.Ranges.set(key, next, g.now)
	}}
}

// TakeSMS takes one SMS from every limit, or from none. A trusted request passes the
// guard.
func (g *Ledger) TakeSMS(trusted bool) Refusal {
	reserve := g.needsReserve()
	if met := g.checkSMS(reserve, trusted); met.Wait > 0 {
		return met
	}
	if met := takeFrom(g.smsMeters(reserve), g.now); met.Wait > 0 {
		return met
	}
	if reserve {
		g.takeReserve()
	}
	g.countWaiting()
	return Refusal{}
}

// checkSMS returns the longest refusal by a rule that counts no SMS.
func (g *Ledger) checkSMS(reserve, trusted bool) Refusal {
	var met Refusal
	if client := g.find(Client); client != nil {
		_, wait := takeAll(g.Limits.FailedSends, client.Failed, g.now)
		met.meet("failed sends of a client", wait)
	}
	if trusted {
		return met
	}
	blocked := g.blocked()
	if blocked.Wait == 0 {
		return met
	}
	// A client that waits for the longest of these is not refused again.
	for _, m := range g.smsMeters(reserve) {
		_, wait := takeAll(m.limits, m.levels, g.now)
		met.meet(m.scope, wait)
	}
	met.Guard = met.Wait == 0
	met.meet(blocked.Scope, blocked.Wait)
	return met
}

// needsReserve reports whether the SMS must come from the number's reserve: only slow limits on the
// number refuse it, and the reserve does not.
func (g *Ledger) needsReserve() bool {
	number := g.find(Number)
	if number == nil || g.who.Client == "" || len(g.Limits.Reserve) == 0 {
		return false
	}
	list := g.Limits.PerNumber
	if _, wait := takeAll(list, number.SMS, g.now); wait == 0 {
		return false
	}
	if _, wait := takeAll(withoutSlow(list), number.SMS, g.now); wait > 0 {
		return false
	}
	if until := levelAt(number.Reserved[g.who.customerKey()], 0); until > g.now && until <= g.now+(reserveMemory+clockSlack).Milliseconds() {
		return false
	}
	_, wait := takeAll(g.Limits.Reserve, number.Reserve, g.now)
	return wait == 0
}

// takeReserve takes an SMS from the number's reserve. Call needsReserve first.
func (g *Ledger) takeReserve() {
	number := g.find(Number)
	number.Reserve, _ = takeAll(g.Limits.Reserve, number.Reserve, g.now)
	number.Reserved = number.Reserved.set(g.who.customerKey(), []int64{g.now + reserveMemory.Milliseconds()}, g.now)
}

// returnReserve gives the client's SMS back to the number's reserve and reports whether there was
// one. It must have been taken at the given time, or at any time if at is 0.
func (g *Ledger) returnReserve(at int64) bool {
	number := g.find(Number)
	if number == nil || g.who.Client == "" {
		return false
	}
	until := levelAt(number.Reserved[g.who.customerKey()], 0)
	if until <= g.now || at != 0 && until != at+reserveMemory.Milliseconds() {
		return false
	}
	number.Reserved = number.Reserved.set(g.who.customerKey(), nil, g.now)
	number.Reserve = giveBackAll(g.Limits.Reserve, number.Reserve, 1, true, g.now)
	number.changed = true
	return true
}

// TakeRetry charges another try for an SMS that may have been sent. The SMS itself is charged
// already, but a provider that does not recognise the retry sends it again.
func (g *Ledger) TakeRetry() Refusal {
	var meters []meter
	for _, e := range g.entries {
		if e.kind == Client || e.kind == Number {
			meters = append(meters, own("failed sends of a "+string(e.kind), e, g.Limits.FailedSends, &e.Failed))
		}
	}
	return takeFrom(meters, g.now)
}

// CountFailed counts an SMS that was not sent against its client.
func (g *Ledger) CountFailed() {
	if client := g.find(Client); client != nil {
		client.Failed, _ = takeAll(g.Limits.FailedSends, client.Failed, g.now)
		client.changed = true
	}
}

// ReturnSMS undoes TakeSMS of a time for an SMS that was not sent. counted is whether the guard
// counted its number.
func (g *Ledger) ReturnSMS(counted bool, at int64) {
	for _, m := range g.smsMeters(g.returnReserve(at)) {
		m.put(giveBackAll(m.limits, m.levels, 1, true, g.now))
		m.entry.changed = true
	}
	if g.waitsSince(at) {
		g.endWaiting(false)
	}
	if counted {
		g.uncount(at)
	}
}

// Confirm takes back the charges of a session's SMS because its number is validated: all charges to
// records that clients share, and the latest client's charges to its own.
func (g *Ledger) Confirm(all, byClient int) {
	shared := all
	if all > 0 && g.returnReserve(0) {
		shared--
	}
	for _, m := range g.smsMeters(false) {
		n := all
		switch m.scope {
		case "number":
			n = shared
		case "number and client", "client", "range and client":
			n = byClient
		}
		m.put(giveBackAll(m.limits, m.levels, n, false, g.now))
		m.entry.changed = m.entry.changed || n > 0
	}
	g.endWaiting(true)
	g.countValidation()
}

// In a country that the guard has blocked, the unconfirmed numbers of a client may exceed its
// validated ones by one. Almost all honest people are such clients; an attacker has few of them.

// mayAsk reports whether a blocked country is still open to the client.
func (g *Ledger) mayAsk() bool {
	client := g.find(Client)
	if client == nil {
		return false
	}
	if g.waitingUntil() > g.now || client.Since <= g.now-waitingMemory.Milliseconds() {
		return true
	}
	return client.Waiting < 1+client.Validated
}

// waitingUntil returns until when the number counts against the client.
func (g *Ledger) waitingUntil() int64 {
	if number := g.find(Number); number != nil && g.who.Client != "" {
		return levelAt(number.Clients[g.who.clientKey()], 0)
	}
	return 0
}

func (g *Ledger) waitsSince(at int64) bool {
	return g.waitingUntil() == at+waitingMemory.Milliseconds()
}

// countWaiting counts the number against its client, unless it does already.
func (g *Ledger) countWaiting() {
	client, number := g.find(Client), g.find(Number)
	if client == nil || number == nil || !g.who.Guarded || g.waitingUntil() > g.now {
		return
	}
	if client.Since <= g.now-waitingMemory.Milliseconds() {
		client.Waiting, client.Validated, client.Since = 0, 0, g.now
	}
	client.Waiting++
	g.setWaiting(number, g.now+waitingMemory.Milliseconds())
	client.changed = true
}

// endWaiting stops counting the number against its client.
func (g *Ledger) endWaiting(validated bool) {
	client, number := g.find(Client), g.find(Number)
	if client == nil || number == nil || g.waitingUntil() <= g.now {
		return
	}
	if client.Since <= g.waitingUntil()-waitingMemory.Milliseconds() {
		client.Waiting = max(0, client.Waiting-1)
		if validated {
			client.Validated++
		}
		client.changed = true
	}
	g.setWaiting(number, 0)
}

func (g *Ledger) setWaiting(number *entry, until int64) {
	levels := slices.Clone(number.Clients[g.who.clientKey()])
	if len(levels) == 0 {
		levels = []int64{0}
	}
	levels[0] = until
	number.Clients = number.Clients.set(g.who.clientKey(), levels, g.now)
	number.changed = true
}
