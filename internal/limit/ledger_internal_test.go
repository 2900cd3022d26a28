package limit

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// TestConfirmGivesAClientItsOwnSMSBack lets several clients request SMS of one session. After the
// validation, the number's record gets back all of these SMS, and the last client only its own.
func TestConfirmGivesAClientItsOwnSMSBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, func(l *limits.Limits, _ *limits.Guard) {
		list := []limits.Limit{{Burst: 10, Every: time.Minute}}
		l.PerNumber, l.PerNumberAndClient, l.PerClient, l.PerRangeAndClient, l.PerRange, l.PerCountry, l.Global = list, list, list, list, list, list, list
	})
	const number, client = "447400123456", "203.0.113.7"
	for range 3 {
		if !w.ask(0, number, client) {
			t.Fatal("refused")
		}
	}
	w.unit(0, 0, subjectOf(number, client), func(g *Ledger) Refusal { g.Confirm(3, 1); return Refusal{} })
	w.unit(0, 0, subjectOf(number, client), func(g *Ledger) Refusal {
		for _, m := range g.smsMeters(false) {
			want := int64(0)
			if slices.Contains([]string{"number and client", "client", "range and client"}, m.scope) {
				want = 2
			}
			if left := (levelAt(m.levels, 0) - w.now + minute - 1) / minute; max(0, left) != want {
				t.Errorf("%s: %d SMS are left, want %d", m.scope, left, want)
			}
		}
		return Refusal{}
	})
}

// TestGuardCountsAValidationOnce validates a number three times that was counted once. Otherwise
// two numbers of an accomplice could compensate for many that are not validated.
func TestGuardCountsAValidationOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	const number, client = "447400123456", "203.0.113.7"
	w.ask(0, number, client)
	w.ask(0, number, client)
	for range 3 {
		w.validate(number, client)
	}
	who := subjectOf(number, client)
	for _, of := range []area{areaCountry, areaNetwork, areaHost} {
		s := w.nodes[0].Watch.subject(of, who, w.now)
		if sent, validated, _ := s.totals(w.nodes[0].rules(), w.now); sent != 1 || validated != 1 {
			t.Errorf("area %d counts %d SMS, %d validations", of, sent, validated)
		}
	}
	w.unit(0, 0, who, func(g *Ledger) Refusal {
		if slots := g.find(Range).Guard.Slots; len(slots) != 1 || slots[0][1] != 1 || slots[0][2] != 1 {
			t.Errorf("the range counts %v", slots)
		}
		return Refusal{}
	})
}

// TestRecordsDoNotExpireTooEarly checks that each part of a record alone keeps the record
// from expiring too early.
func TestRecordsDoNotExpireTooEarly(t *testing.T) {
	t.Parallel()
	at, later := start, start+300*minute
	for name, row := range map[string]struct {
		record record
		until  int64
	}{
		"nothing":   {record{}, at},
		"SMS":       {record{SMS: []int64{at, later}}, later},
		"codes":     {record{Codes: []int64{later}}, later},
		"share":     {record{Share: []int64{later}}, later},
		"clients":   {record{Clients: table{"a": {0, later}}}, later},
		"reserved":  {record{Reserved: table{"a": {later}}}, later},
		"ranges":    {record{Ranges: table{"a": {at}, "b": {later}}}, later},
		"count":     {record{WrongCount: 1, WrongAt: at}, at + wrongMemory.Milliseconds()},
		"counted":   {record{Counted: at}, at + guard.Window.Milliseconds()},
		"waiting":   {record{Waiting: 1, Since: at}, at + waitingMemory.Milliseconds()},
		"validated": {record{Validated: 1, Since: at}, at + waitingMemory.Milliseconds()},
		"blocked":   {record{Guard: state{Until: later}}, later + (guard.MaxBlock + memoryAfterBlock).Milliseconds()},
	} {
		got := row.record.expires(guard, at)
		if got <= row.until || got > row.until+expiryStep.Milliseconds() {
			t.Errorf("%s: kept until %d, want just after %d", name, got, row.until)
		}
	}
}

// TestRecordsFit fills each field of a record to its maximum length.
func TestRecordsFit(t *testing.T) {
	t.Parallel()
	const at, count, maxBytes = 1_799_999_999_999, 9_999_999, 2000
	levels := slices.Repeat([]int64{at}, 8)
	full := func(n int) table {
		var all table
		for i := range 100 {
			all = all.set(fmt.Sprintf("%012d", i), slices.Repeat([]int64{at}, n), 0)
		}
		return all
	}
	slots := slices.Repeat(counts{{at / 10_000, count, count}}, slotsPerWindow) // with a window of five minutes, slot numbers are longest
	for name, r := range map[string]record{
		"number": {SMS: levels[:4], Codes: levels[:4], Failed: levels[:4], Reserve: levels[:2], ReserveCodes: levels[:2], Clients: full(4), Reserved: full(1), WrongCount: count, WrongAt: at, Counted: at, Confirmed: true},
		"client": {SMS: levels, Codes: levels, Failed: levels, Share: levels[:1], Ranges: full(2), Waiting: count, Validated: count, Since: at},
		"range": {SMS: levels, Guard: state{
			Slots: slots, Run: slices.Repeat([]runEntry{{9999, at}}, runKept), Blocked: at, Until: at, Count: count,
			By: slices.Repeat([]byEntry{{"123456789012", at / 10_000}}, minClientsAgain),
		}},
	} {
		text, err := json.Marshal(r)
		t.Logf("%s: %d bytes", name, len(text))
		if err != nil || len(text) > maxBytes {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
		var back record
		if err := json.Unmarshal(text, &back); err != nil || len(back.Clients) != len(r.Clients) {
			t.Errorf("%s: read back %v", name, err)
		}
	}
}

// TestTablesForgetWhatEndsFirst adds more keys to a table than it keeps.
func TestTablesForgetWhatEndsFirst(t *testing.T) {
	t.Parallel()
	var all table
	for i := range maxTable + 5 {
		all = all.set(fmt.Sprint(i), []int64{int64(1000 + i)}, 0)
	}
	if len(all) != maxTable || all["4"] != nil || all["5"] == nil {
		t.Errorf("%d keys: %v", len(all), all)
	}
	if all = all.set("x", []int64{5000}, 1000+maxTable); len(all) != 5 {
		t.Errorf("after most have ended: %v", all)
	}
	if all = all.set("x", nil, 0); all["x"] != nil {
		t.Errorf("after x was deleted: %v", all)
	}
}

// TestWrongCountLastsFromTheLatest submits wrong codes a day apart.
func TestWrongCountLastsFromTheLatest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	for n := 1; n <= 40; n++ {
		met := w.unit(0, 0, subjectOf("447400123456", fmt.Sprintf("10.0.%d.7", n)), func(g *Ledger) Refusal {
			met := g.TakeCode(false)
			if got := g.find(Number).WrongCount; got != n {
				t.Errorf("after %d codes it counts %d", n, got)
			}
			return met
		})
		if met.Wait > 0 {
			t.Fatalf("code %d: %+v", n, met)
		}
		w.advance(24 * time.Hour)
	}
}

// TestLockedForAllowsClocks counts wrong codes with a clock that is an hour ahead. The number must
// not be locked for longer than with a correct clock.
func TestLockedForAllowsClocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	w.unit(0, 0, subjectOf("447400123456", "203.0.113.7"), func(g *Ledger) Refusal {
		number := g.find(Number)
		number.WrongCount, number.WrongAt = g.Limits.MaxWrongCodes, w.now+60*minute
		if wait := g.lockedFor(number); wait != wrongMemory.Milliseconds() {
			t.Errorf("it waits %d ms", wait)
		}
		return Refusal{}
	})
}

// TestWaitingIsForgotten lets a client whose number is not validated request another number in a
// blocked country, just before and just after a day has passed.
func TestWaitingIsForgotten(t *testing.T) {
	t.Parallel()
	for ago, open := range map[time.Duration]bool{waitingMemory - time.Millisecond: false, waitingMemory: true} {
		w := newWorld(t, 1, nil)
		w.ask(0, "447400123456", "203.0.113.7")
		w.advance(ago)
		who := subjectOf("447400999999", "203.0.113.7")
		country := w.nodes[0].Watch.subject(areaCountry, who, w.now)
		country.Blocked, country.Until, country.Count = w.now, w.now+minute, 1
		if got := w.ask(0, who.MSISDN, "203.0.113.7"); got != open {
			t.Errorf("%v later it may ask: %v", ago, got)
		}
		w.unit(0, 0, who, func(g *Ledger) Refusal {
			if met := g.TakeSMS(true); met.Wait > 0 {
				t.Errorf("%v later a trusted request is refused: %+v", ago, met)
			}
			return Refusal{Wait: 1}
		})
	}
}

// Records of older releases have other types in fields of the same name.
func TestUnreadableStateStartsFromZero(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	who := subjectOf("447700900001", "192.0.2.1")
	for _, key := range w.nodes[0].Keys(who, SMSKinds()...) {
		w.records[key] = store.Record{Key: key, State: `{"t":[9],"k":"447700900002","i":"GB","m":{"x":1}}`, ExpiresAt: w.now + 1000}
	}
	if met := w.unit(0, 0, who, func(g *Ledger) Refusal { return g.TakeSMS(false) }); met.Wait != 0 {
		t.Errorf("refused: %+v", met)
	}
}
