package limit

import "slices"

// CodeKinds are the kinds of records that count a wrong code.
func CodeKinds() []Kind { return []Kind{Number, Client} }

// TakeCode counts a code as wrong before it is compared, or returns the limit that refuses it.
// first reports whether it is the first code submitted for an SMS that was sent.
func (g *Ledger) TakeCode(first bool) Refusal {
	number := g.find(Number)
	var met Refusal
	meters := g.codeMeters()
	if number != nil {
		wait := g.lockedFor(number)
		_, w := takeAll(g.Limits.WrongCodesPerNumber, number.Codes, g.now)
		if first && max(wait, w) > 0 && g.takeReserveCode(number) {
			meters = slices.DeleteFunc(meters, func(m meter) bool { return m.scope == "wrong codes of a number" })
			wait = 0
		}
		met.meet("wrong codes of a number", wait)
	}
	if client := g.find(Client); client != nil && g.CountFailedChecks {
		_, wait := takeAll(g.Limits.FailedSends, client.Failed, g.now)
		met.meet("failed checks of a client", wait)
	}
	if met.Wait > 0 {
		for _, m := range meters {
			_, wait := takeAll(m.limits, m.levels, g.now)
			met.meet(m.scope, wait)
		}
		return met
	}
	if met = takeFrom(meters, g.now); met.Wait == 0 && number != nil {
		number.WrongCount++
		number.WrongAt, number.changed = g.now, true
	}
	return met
}

func (g *Ledger) codeMeters() []meter {
	var all []meter
	lim := &g.Limits
	for _, e := range g.entries {
		switch e.kind {
		case Number:
			all = append(all, own("wrong codes of a number", e, lim.WrongCodesPerNumber, &e.Codes))
			if g.who.Client != "" {
				all = append(all, g.member("wrong codes of a client for a number", e, 1+len(lim.PerNumberAndClient), lim.WrongCodesPerNumberAndClient))
			}
		case Client:
			all = append(all, own("wrong codes of a client", e, lim.WrongCodesPerClient, &e.Codes))
		case Range, Country, Global:
		}
	}
	return all
}

// lockedFor returns for how many milliseconds a number that has reached MaxWrongCodes stays locked.
func (g *Ledger) lockedFor(number *entry) int64 {
	number.WrongAt = min(number.WrongAt, g.now) // the clock may have been set back
	left := number.WrongAt + wrongMemory.Milliseconds() - g.now
	if left <= 0 {
		number.WrongCount = 0
	}
	if most := g.Limits.MaxWrongCodes; most == 0 || number.WrongCount < most {
		return 0
	}
	return left
}

// takeReserveCode reports whether a code is compared although the number's limits on wrong codes
// refuse it.
func (g *Ledger) takeReserveCode(number *entry) bool {
	if len(g.Limits.ReserveCodes) == 0 {
		return false
	}
	next, wait := takeAll(g.Limits.ReserveCodes, number.ReserveCodes, g.now)
	number.ReserveCodes = next
	return wait == 0
}

// ReturnCode undoes TakeCode.
func (g *Ledger) ReturnCode() {
	for _, m := range g.codeMeters() {
		m.put(giveBackAll(m.limits, m.levels, 1, true, g.now))
		m.entry.changed = true
	}
	if number := g.find(Number); number != nil {
		number.WrongCount = max(0, number.WrongCount-1)
	}
}

// ForgiveCodes records that a code was right: the number's wrong codes no longer count, and the
// right code, which TakeCode counted as wrong, no longer counts against its client. If byClient is
// set, the client's wrong codes for the number do not count any more either.
func (g *Ledger) ForgiveCodes(byNumber, byClient bool) {
	for _, m := range g.codeMeters() {
		switch {
		case m.scope == "wrong codes of a number" && byNumber:
			m.entry.WrongCount, m.entry.WrongAt = 0, 0
			m.put(nil)
		case m.scope == "wrong codes of a client for a number" && byClient:
			m.put(make([]int64, len(m.limits)))
		case m.scope == "wrong codes of a client" && byClient:
			m.put(giveBackAll(m.limits, m.levels, 1, true, g.now))
		default:
			continue
		}
		m.entry.changed = true
	}
}
