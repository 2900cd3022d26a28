package limit

import (
	"encoding/json"
	"fmt"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/store"
)

const (
	// wrongMemory is how long a number's count of wrong codes is kept after the latest one.
	wrongMemory = 30 * 24 * time.Hour

	// waitingMemory is how long a number that is not validated counts against its client in a
	// blocked country.
	waitingMemory = 24 * time.Hour

	// expiryStep is the granularity of the expiry of records. Without it, each change would also
	// change an index.
	expiryStep = 10 * time.Minute
)

// record is the state of one subject. Levels are in the order of their limits. JSON names are short
// because there are many rows.
type record struct {
	SMS    []int64 `json:"t,omitempty"` // levels of the limits on SMS
	Codes  []int64 `json:"w,omitempty"` // levels of the limits on wrong codes
	Failed []int64 `json:"f,omitempty"` // levels of the limits on failed sends

	// Numbers.
	Clients      table   `json:"m,omitempty"` // of each client: until when the number counts as waiting, levels of SMS, levels of codes
	WrongCount   int     `json:"c,omitempty"` // wrong codes since the last right one
	WrongAt      int64   `json:"a,omitempty"` // when the latest was submitted
	Reserve      []int64 `json:"r,omitempty"` // levels of the reserve of SMS
	Reserved     table   `json:"o,omitempty"` // customers that took from it, and how long that is remembered
	ReserveCodes []int64 `json:"d,omitempty"` // levels of the reserve of codes
	Counted      int64   `json:"n,omitempty"` // when the guard counted it last
	Confirmed    bool    `json:"v,omitempty"` // whether it has been validated since

	// Clients.
	Ranges    table   `json:"b,omitempty"` // of each range: levels of SMS
	Share     []int64 `json:"s,omitempty"` // level of guardShare
	Waiting   int     `json:"k,omitempty"` // numbers that the client requested and that are not validated
	Validated int     `json:"l,omitempty"` // numbers that are
	Since     int64   `json:"i,omitempty"` // start of both counts

	// Ranges.
	Guard       state   `json:"g,omitzero"`
	Undelivered []int64 `json:"u,omitempty"` // level of undeliveredInRange
}

// expires returns when the record may be deleted.
func (r *record) expires(g rules, now int64) int64 {
	at := max(now, r.Clients.end(), r.Reserved.end(), r.Ranges.end())
	for _, levels := range [][]int64{r.SMS, r.Codes, r.Failed, r.Reserve, r.ReserveCodes, r.Share, r.Undelivered} {
		for _, level := range levels {
			at = max(at, level)
		}
	}
	if r.WrongCount > 0 {
		at = max(at, r.WrongAt+wrongMemory.Milliseconds())
	}
	if r.Counted > 0 {
		at = max(at, r.Counted+g.Window.Milliseconds())
	}
	if r.Waiting+r.Validated > 0 {
		at = max(at, r.Since+waitingMemory.Milliseconds())
	}
	at = max(at, r.Guard.expires(g))
	step := expiryStep.Milliseconds()
	return (at/step + 1) * step
}

// Limiter contains the rules for all records.
type Limiter struct {
	Limits limits.Limits
	Guard  limits.Guard
	Watch  *Watch // judges countries and networks

	// CountFailedChecks makes codes that a service did not check count as failed sends.
	CountFailedChecks bool
}

func (l *Limiter) rules() rules { return rules{l.Guard} }

// entry is the record of one kind in a Ledger.
type entry struct {
	record

	kind    Kind
	row     *store.Record
	changed bool
}

// Ledger holds the records of one subject within a unit of work.
type Ledger struct {
	*Limiter

	who     Subject
	now     int64
	entries []*entry
	borrow  *entry         // of another ledger, which stores it
	blocks  []limits.Block // ranges that the guard blocked in this unit
	events  []event        // for the Watch, after the unit is stored
}

// Keys returns the keys of the records of these kinds that the subject needs.
func (l *Limiter) Keys(who Subject, kinds ...Kind) []store.Key {
	var keys []store.Key
	for _, of := range kinds {
		if l.keeps(of, who) {
			keys = append(keys, who.Key(of))
		}
	}
	return keys
}

// keeps reports whether the subject has a record of a kind.
func (l *Limiter) keeps(of Kind, who Subject) bool {
	if who.MSISDN == "" {
		return false
	}
	any := func(lists ...[]limits.Limit) bool {
		for _, list := range lists {
			if len(list) > 0 {
				return true
			}
		}
		return false
	}
	lim := &l.Limits
	switch of {
	case Number:
		perClient := who.Client != "" && any(lim.PerNumberAndClient, lim.WrongCodesPerNumberAndClient)
		return who.Guarded || perClient || lim.MaxWrongCodes > 0 || any(lim.PerNumber, lim.WrongCodesPerNumber, lim.FailedSends)
	case Client:
		return who.Client != "" && (who.Guarded || any(lim.PerClient, lim.PerRangeAndClient, lim.WrongCodesPerClient, lim.FailedSends))
	case Range:
		return who.Guarded || any(lim.PerRange)
	case Country, Global: // see Budgets
	}
	return false
}

// Load reads the records of a subject, in the order of Keys. Put writes into them.
func (l *Limiter) Load(who Subject, records []store.Record, now int64, kinds ...Kind) (*Ledger, error) {
	g := &Ledger{Limiter: l, who: who, now: now}
	for _, of := range kinds {
		if !l.keeps(of, who) {
			continue
		}
		row := &records[len(g.entries)]
		e := &entry{kind: of, row: row}
		g.entries = append(g.entries, e)
		if row.State == "" || row.ExpiresAt <= now {
			continue
		}
		if json.Unmarshal([]byte(row.State), &e.record) != nil {
			e.record = record{} // of an older release, or damaged: start from zero
		}
	}
	return g, nil
}

// Put writes the changed records into the rows that were loaded.
func (g *Ledger) Put() error {
	for _, e := range g.entries {
		if !e.changed || e == g.borrow {
			continue
		}
		text, err := json.Marshal(e.record)
		if err != nil {
			return fmt.Errorf("threepid: write the state of a record: %w", err)
		}
		e.row.State, e.row.ExpiresAt = string(text), e.expires(g.rules(), g.now)
	}
	return nil
}

// Borrow makes g, the ledger of another client, change the number's record of from.
func (g *Ledger) Borrow(from *Ledger) {
	if g.borrow = from.find(Number); g.borrow != nil {
		g.entries = append(g.entries, g.borrow)
	}
}

// find returns the record of a kind, or nil.
func (g *Ledger) find(of Kind) *entry {
	for _, e := range g.entries {
		if e.kind == of {
			return e
		}
	}
	return nil
}

// Empty reports whether the ledger has no records.
func (g *Ledger) Empty() bool { return len(g.entries) == 0 }

// Now returns the time at which the ledger was loaded.
func (g *Ledger) Now() int64 { return g.now }

// Clear resets all records.
func (g *Ledger) Clear() {
	for _, e := range g.entries {
		e.record, e.changed = record{}, true
	}
}
