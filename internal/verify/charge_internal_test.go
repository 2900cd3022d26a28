package verify

import (
	"slices"
	"testing"
	"time"
)

// tallied is a tally at minute 0 over buckets in these scopes, with limits of ten
// texts and ten wrong tokens in each.
func tallied(scopes ...scope) *tally {
	ten := []Limit{{Burst: 10, Per: time.Minute}}
	s := &Service{Config: Config{
		Limits: Limits{
			Number: ten, NumberClient: ten, Client: ten, BlockClient: ten, Block: ten, Country: ten, All: ten,
			Wrong: ten, WrongClient: ten, Submit: ten, WrongMost: 100,
		},
		Guard: guard,
	}}
	t := &tally{service: s, subject: subject{msisdn: "447700900001", country: "GB", client: "client", guarded: true}, now: startOfWatch().now}
	for _, of := range scopes {
		t.entries = append(t.entries, entry{scope: of})
	}
	return t
}

// TestConfirmGivesAClientItsOwnTextsBack has several clients ask for texts of
// one session: who validates gets back what it took, the number all of them.
func TestConfirmGivesAClientItsOwnTextsBack(t *testing.T) {
	t.Parallel()
	scopes := slices.DeleteFunc(textScopes(), func(of scope) bool { return of == scopeNetwork }) // has no limits
	tally := tallied(scopes...)
	for range 3 {
		if met := tally.takeText(); met.wait > 0 {
			t.Fatalf("refused by %s", met.scope)
		}
	}
	tally.confirm(3, 1)
	for i, of := range scopes {
		want := int64(0)
		switch of {
		case scopeClient, scopeNumberClient, scopeBlockClient:
			want = 2
		case scopeNumber, scopeBlock, scopeCountry, scopeAll, scopeNetwork:
		}
		if left := (tally.entries[i].state.Texts[0] - tally.now) / minute; left != want {
			t.Errorf("%s is charged with %d texts, want %d", of, left, want)
		}
	}
}

// TestGuardCountsAValidationOnce has a number that was counted once validate
// twice: else two numbers whose owner is in with the attacker could cover for many.
func TestGuardCountsAValidationOnce(t *testing.T) {
	t.Parallel()
	tally := tallied(scopeNumber, scopeClient, scopeBlock, scopeCountry)
	if !tally.notice() {
		t.Fatal("the number was not counted")
	}
	for range 3 {
		tally.confirm(1, 1)
	}
	for _, of := range []scope{scopeBlock, scopeCountry} {
		slots := tally.find(of).state.Guard.Slots
		if len(slots) != 1 || slots[0][1] != 1 || slots[0][2] != 1 {
			t.Errorf("%s counts %v", of, slots)
		}
	}
}

// TestGuardCountsNoValidationWithoutItsText has a number be texted while its
// country is closed to others, which does not count, and validate: else who came
// in meanwhile would cover for those who pump when it opens.
func TestGuardCountsNoValidationWithoutItsText(t *testing.T) {
	t.Parallel()
	tally := tallied(scopeNumber, scopeClient, scopeBlock, scopeCountry)
	country := tally.find(scopeCountry)
	country.state.Guard = guardState{Closed: tally.now - minute, Until: tally.now + minute, Strikes: 1}
	if !tally.notice() {
		t.Fatal("the number was not counted")
	}
	tally.now += 2 * minute
	tally.confirm(1, 1)
	if slots := country.state.Guard.Slots; len(slots) != 0 {
		t.Errorf("the country counts %v", slots)
	}
	var texted, validated int64
	for _, slot := range tally.find(scopeBlock).state.Guard.Slots {
		texted, validated = texted+slot[1], validated+slot[2]
	}
	if texted != 1 || validated != 1 {
		t.Errorf("the block counts %d texts and %d validations", texted, validated)
	}
}

// TestGuardOfACountryCountsWhatABlockForgets has a number validate whose block was
// closed meanwhile: its country has counted the text, and is owed the validation.
func TestGuardOfACountryCountsWhatABlockForgets(t *testing.T) {
	t.Parallel()
	tally := tallied(scopeNumber, scopeClient, scopeBlock, scopeCountry)
	if !tally.notice() {
		t.Fatal("the number was not counted")
	}
	block := tally.find(scopeBlock)
	block.state.Guard = guardState{Closed: tally.now + 1, Until: tally.now + 15*minute, Strikes: 1}
	tally.now += minute / 2
	tally.confirm(1, 1)
	if slots := tally.find(scopeCountry).state.Guard.Slots; len(slots) != 1 || slots[0][1] != 1 || slots[0][2] != 1 {
		t.Errorf("the country counts %v", slots)
	}
	if g := block.state.Guard; len(g.Slots)+len(g.While) != 0 {
		t.Errorf("the block counts %v and %v", g.Slots, g.While)
	}
}

// TestClosingAheadOfTheClock has a clock that was an hour ahead close a country:
// a number still counts once, and so does its validation.
func TestClosingAheadOfTheClock(t *testing.T) {
	t.Parallel()
	tally := tallied(scopeNumber, scopeClient, scopeCountry)
	tally.find(scopeCountry).state.Guard.Closed = tally.now + 60*minute
	if !tally.notice() || tally.notice() {
		t.Error("the number was not counted once")
	}
}

// TestBucketsLastAsLongAsWhatTheyRemember has each kind of memory alone keep its
// bucket.
func TestBucketsLastAsLongAsWhatTheyRemember(t *testing.T) {
	t.Parallel()
	tally := tallied(scopeNumber)
	at, later := tally.now, tally.now+300*minute
	for name, row := range map[string]struct {
		state bucketState
		until int64
	}{
		"nothing": {bucketState{}, at},
		"texts":   {bucketState{Texts: []int64{at, later}}, later},
		"wrong":   {bucketState{Wrong: []int64{later}}, later},
		"share":   {bucketState{Share: []int64{later}}, later},
		"count":   {bucketState{WrongCount: 1, WrongAt: at}, at + wrongMemory.Milliseconds()},
		"counted": {bucketState{Counted: at}, at + guard.Window.Milliseconds()},
		"asked":   {bucketState{Asked: "a number", AskedAt: at}, at + askedMemory.Milliseconds()},
		"closed":  {bucketState{Guard: guardState{Until: later}}, later + (guard.CloseMost + probation).Milliseconds()},
	} {
		got := tally.expires(&entry{state: row.state})
		if got <= row.until || got > row.until+expiryStep.Milliseconds() {
			t.Errorf("%s: kept until %d, want just after %d", name, got, row.until)
		}
	}
}

// TestWrongCountLastsFromTheLatest has wrong tokens come a day apart.
func TestWrongCountLastsFromTheLatest(t *testing.T) {
	t.Parallel()
	tally := tallied(scopeNumber)
	number := tally.find(scopeNumber)
	for n := 1; n <= 40; n++ {
		if met := tally.takeTry(false); met.wait > 0 || number.state.WrongCount != n {
			t.Fatalf("after %d tries it counts %d, to wait %d", n, number.state.WrongCount, met.wait)
		}
		tally.now += 24 * 60 * minute
	}
}

// TestAskedIsForgotten has a client ask for another number in a closed country,
// just before and just when a day is over since it asked for one.
func TestAskedIsForgotten(t *testing.T) {
	t.Parallel()
	for ago, open := range map[time.Duration]bool{askedMemory - time.Millisecond: false, askedMemory: true} {
		tally := tallied(scopeClient, scopeCountry)
		tally.find(scopeCountry).state.Guard = guardState{Closed: tally.now, Until: tally.now + minute, Strikes: 1}
		client := &tally.find(scopeClient).state
		client.Asked, client.AskedAt = "another number", tally.now-ago.Milliseconds()
		if wait := tally.closedFor(tally.find(scopeCountry)); (wait == 0) != open {
			t.Errorf("%v later it waits %d ms", ago, wait)
		}
	}
}

// TestWrongMostForgivesClocks has a clock that was an hour ahead count wrong
// tokens: the number is not locked for longer than by a clock that is right.
func TestWrongMostForgivesClocks(t *testing.T) {
	t.Parallel()
	tally := tallied(scopeNumber)
	number := tally.find(scopeNumber)
	number.state.WrongCount, number.state.WrongAt = tally.service.Limits.WrongMost, tally.now+60*minute
	if wait := tally.wrongMost(number); wait != wrongMemory.Milliseconds() {
		t.Errorf("it waits %d ms", wait)
	}
}

// TestValidatedForgivesTries has the right token come after wrong ones, twice: each
// time it proves the number anew.
func TestValidatedForgivesTries(t *testing.T) {
	t.Parallel()
	s := claimedSession()
	s.WrongTries, s.Texts, s.ClientTexts = maxTries, 2, 1
	for _, at := range []int64{minute, 2 * minute} {
		if s = validated(s, spans, at); s.WrongTries != 0 || s.Texts != 0 || s.ClientTexts != 0 || s.ValidatedAt != at {
			t.Errorf("%+v", s)
		}
		s.WrongTries, s.Texts, s.ClientTexts = maxTries, 1, 1
	}
}
