package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// historyTests are about what the store keeps for operators.
func historyTests() []test {
	return []test{
		{"StatisticsOfTwoNodes", testStatisticsOfTwoNodes},
		{"StatisticsOfAnHour", testStatisticsOfAnHour},
		{"StatisticsSurviveAFailingStore", testStatisticsSurviveAFailingStore},
		{"HistoryIsDeleted", testHistoryIsDeleted},
		{"HistoryIsOff", testHistoryIsOff},
		{"HistoryOfAStoreWithout", testHistoryOfAStoreWithout},
		{"Explain", testExplain},
		{"ExplainLevels", testExplainLevels},
		{"ExplainARefusedNumber", testExplainARefusedNumber},
		{"JournalOfAFlood", testJournalOfAFlood},
		{"Actions", testActions},
		{"AllBlocksAndLift", testAllBlocksAndLift},
		{"LiftOnAnotherNode", testLiftOnAnotherNode},
		{"Export", testExport},
		{"Erase", testErase},
	}
}

// counts returns how often something happened today, by event, provider and result.
func (n *node) counts(t *testing.T) map[string]int64 {
	t.Helper()
	now := n.clock.Now()
	statistics, err := n.plugin.Statistics(t.Context(), now.Add(-24*time.Hour), now.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int64)
	for _, s := range statistics {
		counts[strings.Trim(strings.Join([]string{s.Event, s.Country, s.Purpose, s.Provider, s.Result}, " "), " ")] += s.Count
	}
	return counts
}

func expectCounts(t *testing.T, got, want map[string]int64) {
	t.Helper()
	for name := range got {
		if got[name] != want[name] {
			t.Errorf("%s: %d, want %d", name, got[name], want[name])
		}
	}
	for name := range want {
		if got[name] == 0 {
			t.Errorf("%s is missing", name)
		}
	}
}

// testStatisticsOfTwoNodes counts what two nodes do. One of them closes before the statistics are
// read.
func testStatisticsOfTwoNodes(t *testing.T, open opener) {
	st := open(t)
	a := start(t, st)
	b := start(t, st)
	for i, n := range []*node{a, b, b} {
		sid := n.mustRequest(addPath, request(map[string]any{"client_secret": fmt.Sprint("secret", i)})).text("sid")
		n.clock.advance(20 * time.Second)
		n.submit(sid, fmt.Sprint("secret", i), wrong(n.token()))
		expect(t, n.submit(sid, fmt.Sprint("secret", i), n.token()), http.StatusOK, "")
	}
	a.sms.Fail(errors.New("busy"))
	expect(t, a.post(regPath, request(map[string]any{"client_secret": "fails"})), http.StatusBadGateway, "M_SEND_ERROR")
	expect(t, a.post(addPath, request(map[string]any{"client_secret": "bad", "phone_number": "12"})), http.StatusBadRequest, "M_INVALID_PARAM")
	if err := a.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	expectCounts(t, b.counts(t), map[string]int64{
		"sms GB add smstest accepted": 3, "sms GB register smstest failed": 1, "validation GB add smstest 30s": 3,
		"code GB add  right": 3, "code GB add  wrong": 3, "refusal  add  bad input": 1,
	})
}

func testStatisticsOfAnHour(t *testing.T, open opener) {
	n := start(t, open(t))
	n.clock.advance(30 * time.Minute)
	noon := n.clock.Now().Truncate(time.Hour)
	for i := range 3 {
		n.mustRequest(addPath, request(map[string]any{"client_secret": fmt.Sprint("secret", i)}))
		n.clock.advance(time.Hour)
	}
	for _, row := range []struct {
		from, to time.Time
		want     int64
	}{
		{noon, noon.Add(time.Hour), 1}, {noon, noon.Add(3 * time.Hour), 3}, {noon.Add(time.Minute), noon.Add(2 * time.Hour), 1}, {noon.Add(5 * time.Hour), noon.Add(9 * time.Hour), 0},
	} {
		list, err := n.plugin.Statistics(t.Context(), row.from, row.to)
		if err != nil {
			t.Fatal(err)
		}
		var sent, segments int64
		for _, s := range list {
			if s.Hour.Minute() != 0 || s.Duration < 0 {
				t.Errorf("%+v", s)
			}
			sent += s.Count
			segments += s.Segments
		}
		if sent != row.want || segments != row.want {
			t.Errorf("from %v to %v: %d SMS of %d segments, want %d", row.from, row.to, sent, segments, row.want)
		}
	}
}

// brokenHistory is a store whose history fails for a while.
type brokenHistory struct {
	Store
	store.History

	broken atomic.Bool
}

func (b *brokenHistory) PutTotals(ctx context.Context, totals []store.Total) error {
	if b.broken.Load() {
		return errors.New("disk on fire")
	}
	return b.History.PutTotals(ctx, totals)
}

func (b *brokenHistory) AddEntries(ctx context.Context, entries []store.Entry) error {
	err := b.History.AddEntries(ctx, entries)
	if b.broken.Load() { // it is stored, and only the response is lost
		return errors.New("connection lost")
	}
	return err
}

func testStatisticsSurviveAFailingStore(t *testing.T, open opener) {
	inner := open(t)
	st := &brokenHistory{Store: inner, History: keepsHistory(t, inner)}
	n := start(t, st)
	st.broken.Store(true)
	n.validatedBy(secret, addPath, 1)
	if _, err := n.plugin.Statistics(t.Context(), n.clock.Now(), n.clock.Now()); err == nil {
		t.Error("there is no error although the store fails")
	}
	if _, err := n.plugin.Explain(t.Context(), msisdn); err == nil {
		t.Error("there is no error although the store fails")
	}
	st.broken.Store(false)
	for range 2 {
		expectCounts(t, n.counts(t), map[string]int64{"sms GB add smstest accepted": 1, "validation GB add smstest 15s": 1, "code GB add  right": 1})
	}
	if names := eventNames(n.explain(t, msisdn).Events); !slices.Equal(names, []string{"validation", "code", "sms"}) {
		t.Errorf("events: %q", names)
	}
}

func keepsHistory(t *testing.T, st Store) store.History {
	t.Helper()
	h, ok := st.(store.History)
	if !ok {
		t.Skip("the store keeps no history")
	}
	return h
}

func (n *node) explain(t *testing.T, number string) threepid.Explanation {
	t.Helper()
	x, err := n.plugin.Explain(t.Context(), number)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(x.Events)
	if err != nil {
		t.Fatal(err)
	}
	if found := n.secretsIn(string(text)); len(found) > 0 {
		t.Errorf("the journal has %q: %s", found, text)
	}
	return x
}

func eventNames(events []observe.Event) []string {
	names := make([]string, 0, len(events))
	for _, e := range events {
		names = append(names, observe.Name(e))
	}
	return names
}

// testHistoryIsDeleted looks for a journal entry and for statistics after they have expired. It
// asks the store, because the plugin's janitor runs only once a minute.
func testHistoryIsDeleted(t *testing.T, open opener) {
	st := open(t)
	history := keepsHistory(t, st)
	n := start(t, st, func(o *threepid.Options) { o.StatisticsLifetime, o.JournalLifetime = 48*time.Hour, 24*time.Hour })
	n.mustRequest(addPath, attempt(1))
	n.explain(t, msisdn)
	at := n.clock.Now()
	left := func(now time.Time) (entries, totals, actions int) {
		t.Helper()
		n.counts(t) // writes what waits
		if _, err := history.DeleteExpiredHistory(t.Context(), now, 1000); err != nil {
			t.Fatal(err)
		}
		done, err := n.plugin.Actions(t.Context(), time.Time{}, 10) // which are kept as long as statistics
		if err != nil {
			t.Fatal(err)
		}
		sums, err := history.Totals(t.Context(), 0, at.Add(time.Hour).UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		return len(n.explain(t, msisdn).Events), len(sums), len(done)
	}
	for _, row := range []struct {
		after                    time.Duration
		entries, totals, actions int
	}{{24*time.Hour - time.Second, 1, 1, 1}, {24 * time.Hour, 0, 1, 2}, {48*time.Hour - time.Second, 0, 1, 3}, {48 * time.Hour, 0, 0, 0}} {
		entries, totals, actions := left(at.Add(row.after))
		if entries != row.entries || totals != row.totals || actions != row.actions {
			t.Errorf("after %v: %d events, %d totals and %d actions, want %d, %d and %d", row.after, entries, totals, actions, row.entries, row.totals, row.actions)
		}
	}
}

func testHistoryIsOff(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) { o.StatisticsLifetime, o.JournalLifetime = -1, -1 })
	n.validatedBy(secret, addPath, 1)
	n.expectNoHistory(t)
}

// testHistoryOfAStoreWithout uses a store that is no store.History.
func testHistoryOfAStoreWithout(t *testing.T, open opener) {
	inner := open(t)
	n := start(t, both{inner, inner})
	n.validatedBy(secret, addPath, 1)
	n.expectNoHistory(t)
	if _, err := n.plugin.Export(t.Context(), msisdn); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("Export: %v, want ErrUnsupported", err)
	}
	if err := n.plugin.Erase(t.Context(), msisdn); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("Erase: %v, want ErrUnsupported", err)
	}
}

func (n *node) expectNoHistory(t *testing.T) {
	t.Helper()
	if _, err := n.plugin.Statistics(t.Context(), n.clock.Now(), n.clock.Now()); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("Statistics: %v, want ErrUnsupported", err)
	}
	if _, err := n.plugin.Actions(t.Context(), time.Time{}, 10); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("Actions: %v, want ErrUnsupported", err)
	}
	if x := n.explain(t, msisdn); len(x.Events) > 0 || !x.Since.IsZero() {
		t.Errorf("Explain: %+v", x)
	}
	if blocks, err := n.plugin.AllBlocks(t.Context()); err != nil || len(blocks) > 0 {
		t.Errorf("AllBlocks: %+v, %v", blocks, err)
	}
	if err := n.plugin.RecordReceipt(t.Context(), sms.Receipt{Provider: "acme", MessageID: "x", Status: sms.Delivered}); err != nil {
		t.Error(err)
	}
}

// testExplain makes another node explain what happened to a number.
func testExplain(t *testing.T, open opener) {
	st := open(t)
	a := start(t, st, authenticated)
	sid := a.mustRequest(addPath, attempt(1)).text("sid")
	a.clock.advance(time.Minute)
	a.submit(sid, secret, wrong(a.token()))
	a.clock.advance(time.Second)
	expect(t, a.submit(sid, secret, a.token()), http.StatusOK, "")
	if err := a.plugin.AddNumber(t.Context(), "alice", sid, secret); err != nil {
		t.Fatal(err)
	}
	a.clock.advance(time.Second)
	expect(t, a.post(addPath, request(map[string]any{"client_secret": "another"})), http.StatusBadRequest, "M_THREEPID_IN_USE")
	if err := a.plugin.Close(); err != nil {
		t.Fatal(err)
	}

	b := startWith(t, st, a.sms, &logs{}, func(o *threepid.Options) { o.Now = a.clock.Now })
	x := b.explain(t, "+"+msisdn)
	if x.MSISDN != msisdn || x.International != "+44 7700 900001" || x.Country != "GB" || x.UserID != "alice" || x.Policy != "" || x.TestNumber || len(x.Blocks) > 0 {
		t.Errorf("%+v", x)
	}
	if want := a.clock.Now().Add(-7 * 24 * time.Hour); !x.Since.Equal(want) {
		t.Errorf("since %v, want %v", x.Since, want)
	}
	if names := eventNames(x.Events); !slices.Equal(names, []string{"refusal", "number", "validation", "code", "code", "sms"}) {
		t.Fatalf("events: %q", names)
	}
	refusal, _ := x.Events[0].(observe.Refusal)
	validation, _ := x.Events[2].(observe.Validation)
	sent, _ := x.Events[5].(observe.SMS)
	if refusal.Reason != "in use" || validation.TimeToValidate != 61*time.Second || validation.Provider != "smstest" ||
		sent.Outcome != observe.Accepted || sent.Provider != "smstest" || sent.MessageID == "" || sent.ID == "" || !sent.At.Equal(a.clock.Now().Add(-62*time.Second)) {
		t.Errorf("events: %+v", x.Events)
	}
	if other := b.explain(t, inFrance); len(other.Events) > 0 || other.UserID != "" || other.Country != "FR" {
		t.Errorf("another number: %+v", other)
	}
	if _, err := b.plugin.Explain(t.Context(), "07700900001"); !errors.Is(err, threepid.ErrInvalidNumber) {
		t.Errorf("not in E.164: %v", err)
	}
}

func testExplainLevels(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) {
		o.Limits.PerNumber = []limits.Limit{{Burst: 3, Every: time.Minute}}
		o.Limits.PerCountry = []limits.Limit{{Burst: 100, Every: time.Hour}}
	})
	left := func(scope string) limits.Level {
		t.Helper()
		for _, l := range n.explain(t, msisdn).Levels {
			if l.Scope == scope {
				return l
			}
		}
		t.Fatalf("no level of %s", scope)
		return limits.Level{}
	}
	if l := left("PerNumber"); l.Left != 3 || !l.Next.IsZero() || !l.Full.IsZero() || l.Limit.Burst != 3 {
		t.Errorf("before the first SMS: %+v", l)
	}
	for i := range 3 {
		expect(t, n.asks(fmt.Sprint("client", i), spoken), http.StatusOK, "")
	}
	now := n.clock.Now()
	if l := left("PerNumber"); l.Left != 0 || !l.Next.Equal(now.Add(time.Minute)) || !l.Full.Equal(now.Add(3*time.Minute)) {
		t.Errorf("after three SMS: %+v", l)
	}
	if l := left("PerCountry"); l.Left > 97 || l.Left < 90 { // a part is leased to the node
		t.Errorf("the country's budget: %+v", l)
	}
	n.clock.advance(time.Minute)
	if l := left("PerNumber"); l.Left != 1 || !l.Next.IsZero() {
		t.Errorf("a minute later: %+v", l)
	}
	if l := left("MaxWrongCodes"); l.Left != 100 {
		t.Errorf("wrong codes: %+v", l)
	}
}

func testExplainARefusedNumber(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) {
		o.Policy.DenyCountries = []string{"FR"}
		o.Policy.TestNumbers = []limits.TestNumber{{Number: "+" + msisdn, Code: "123456"}}
	})
	if x := n.explain(t, inFrance); x.Policy == "" || x.TestNumber {
		t.Errorf("a number that the policy refuses: %+v", x)
	}
	if x := n.explain(t, msisdn); x.Policy != "" || !x.TestNumber {
		t.Errorf("a test number: %+v", x)
	}
}

// testJournalOfAFlood refuses requests for one number many times: the journal has one entry for
// each minute and reason, and the statistics count all.
func testJournalOfAFlood(t *testing.T, open opener) {
	n := start(t, open(t))
	n.associate(t, "alice", msisdn)
	const many = 30
	for i := range many {
		n.post(addPath, request(map[string]any{"client_secret": fmt.Sprint("secret", i)}))
	}
	n.clock.advance(time.Minute)
	n.post(addPath, request(nil))
	if events := n.explain(t, msisdn).Events; len(events) != 2 {
		t.Errorf("%d events: %+v", len(events), events)
	}
	expectCounts(t, n.counts(t), map[string]int64{"refusal GB add  in use": many + 1})
}

func testActions(t *testing.T, open opener) {
	n := start(t, open(t))
	keepsHistory(t, n.store)
	ctx := observe.WithOperator(t.Context(), "carol")
	n.associate(t, "alice", msisdn)
	_, unblocked := n.plugin.Unblock(ctx, msisdn)
	n.clock.advance(time.Second)
	released := n.plugin.ReleaseNumber(ctx, msisdn)
	n.clock.advance(time.Second)
	_, explained := n.plugin.Explain(t.Context(), msisdn)
	if err := errors.Join(unblocked, released, explained); err != nil {
		t.Fatal(err)
	}
	actions, err := n.plugin.Actions(t.Context(), time.Time{}, 10)
	var got []string
	for _, a := range actions {
		got = append(got, a.Operator+" "+a.Action+" "+a.Subject)
	}
	if want := []string{" explain +44770090****", "carol release +44770090****", "carol unblock +44770090****"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("actions: %q, %v; want %q", got, err, want)
	}
	if latest, err := n.plugin.Actions(t.Context(), n.clock.Now(), 10); err != nil || len(latest) != 1 {
		t.Errorf("actions since now: %+v, %v", latest, err)
	}
	if latest, err := n.plugin.Actions(t.Context(), time.Time{}, 2); err != nil || len(latest) != 2 {
		t.Errorf("the latest two actions: %+v, %v", latest, err)
	}
}

func testAllBlocksAndLift(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	keepsHistory(t, n.store)
	n.pump(t, scattered(1))
	blocks, err := n.plugin.AllBlocks(t.Context())
	if err != nil || len(blocks) != 2 || blocks[0].Country != "GB" || blocks[0].Range != "" || blocks[1].Range != "44740001" ||
		blocks[0].Reason == "" || blocks[1].Reason == "" || !blocks[1].Until.Equal(heard.all[0].Until) || blocks[1].Count != 1 {
		t.Fatalf("blocks: %+v, %v; heard %+v", blocks, err, heard.all)
	}
	for i, b := range blocks {
		if err := n.plugin.Lift(observe.WithOperator(t.Context(), "carol"), b); err != nil {
			t.Fatal(err)
		}
		if err := n.plugin.Lift(t.Context(), b); !errors.Is(err, threepid.ErrNotBlocked) {
			t.Errorf("lifted twice: %v", err)
		}
		if left, err := n.plugin.AllBlocks(t.Context()); err != nil || len(left) != len(blocks)-i-1 {
			t.Errorf("blocks that are left: %+v, %v", left, err)
		}
	}
	expect(t, n.asks("somebody", mobile(1, 3)), http.StatusOK, "")
	if actions, err := n.plugin.Actions(t.Context(), time.Time{}, 10); err != nil || len(actions) != 2 ||
		actions[0].Subject != "+44740001****" || actions[1].Subject != "GB" || actions[0].Action != "lift" || actions[0].Operator != "carol" {
		t.Errorf("actions: %+v, %v", actions, err)
	}
	for _, nothing := range []limits.Block{{}, {Country: "XX"}, {Network: "203.0.113.0/24"}, {Range: "4477"}, {Range: "x"}, {Range: strings.Repeat("4", 30)}} {
		if err := n.plugin.Lift(t.Context(), nothing); !errors.Is(err, threepid.ErrNotBlocked) {
			t.Errorf("Lift(%+v): %v, want ErrNotBlocked", nothing, err)
		}
	}
}

// testLiftOnAnotherNode makes one node block a country and another one lift the block.
func testLiftOnAnotherNode(t *testing.T, open opener) {
	st := open(t)
	if _, ok := st.(store.Counters); !ok {
		t.Skip("the store shares no counts between nodes")
	}
	var heard heardBlocks
	a := start(t, st, guarded(&heard))
	b := startWith(t, st, a.sms, &logs{}, guarded(&heard), func(o *threepid.Options) { o.Now = a.clock.Now })
	until(t, func(i int) answer {
		a.clock.advance(10 * time.Second)
		return a.asks(fmt.Sprintf("2001:db8:%x:1::1", i), mobile(i%90, i*97%10_000))
	})
	blocked := func(n *node) bool {
		blocks, err := n.plugin.AllBlocks(t.Context())
		return err == nil && slices.ContainsFunc(blocks, func(b limits.Block) bool { return b.Country == "GB" && b.Range == "" })
	}
	waitUntil(t, "the other node knows the block", func() bool { return blocked(b) })
	if err := b.plugin.Lift(t.Context(), limits.Block{Country: "GB"}); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the node that blocked the country knows that the block is lifted", func() bool { return !blocked(a) })
}

func testExport(t *testing.T, open opener) {
	n := start(t, open(t), limited, authenticated)
	keepsHistory(t, n.store)
	sid := n.validatedBy(secret, addPath, 1)
	n.associate(t, "alice", msisdn)
	text, err := n.plugin.Export(t.Context(), "+"+msisdn)
	if err != nil {
		t.Fatal(err)
	}
	var x struct {
		Number   string
		UserID   string `json:"user_id"`
		Sessions []map[string]any
		Limits   []map[string]any
		Journal  []struct {
			Type  string
			Event map[string]any
		}
	}
	if err := json.Unmarshal(text, &x); err != nil {
		t.Fatal(err)
	}
	if x.Number != "+"+msisdn || x.UserID != "alice" || len(x.Sessions) != 1 || x.Sessions[0]["sid"] != sid || len(x.Limits) != 1 || len(x.Journal) != 3 || x.Journal[2].Type != "sms" {
		t.Errorf("%s", text)
	}
	sess, err := n.sessionOf(t)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{secret, n.token(), fmt.Sprintf("%x", sess.Nonce), sess.Key.String()} {
		if strings.Contains(string(text), s) {
			t.Errorf("the export has %q", s)
		}
	}
	if text, err := n.plugin.Export(t.Context(), inFrance); err != nil || strings.Contains(string(text), sid) {
		t.Errorf("another number: %s, %v", text, err)
	}
}

func testErase(t *testing.T, open opener) {
	n := start(t, open(t), limited, authenticated)
	history := keepsHistory(t, n.store)
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	token := n.token()
	other := n.mustRequest(addPath, request(map[string]any{"client_secret": "other", "phone_number": inFrance})).text("sid")
	n.associate(t, "alice", msisdn)
	if err := n.plugin.Erase(observe.WithOperator(t.Context(), "carol"), msisdn); err != nil {
		t.Fatal(err)
	}
	expect(t, n.submit(sid, secret, token), http.StatusBadRequest, "M_INVALID_PARAM")
	if _, err := n.sessionOf(t); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the session: %v", err)
	}
	if sessions, err := history.SessionsOf(t.Context(), msisdn, 10); err != nil || len(sessions) > 0 {
		t.Errorf("sessions: %+v, %v", sessions, err)
	}
	if rows, err := n.store.View(t.Context(), store.Names{Records: []store.Key{store.RecordKey("number", msisdn)}}); err != nil || rows.Records[0].State != "" {
		t.Errorf("the record: %+v, %v", rows, err)
	}
	if _, err := n.store.Owner(t.Context(), msisdn); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the account: %v", err)
	}
	x := n.explain(t, msisdn)
	if names := eventNames(x.Events); len(names) > 0 || x.UserID != "" {
		t.Errorf("the journal: %q", names)
	}
	expect(t, n.submit(other, "other", n.token()), http.StatusOK, "")
	if actions, err := n.plugin.Actions(t.Context(), time.Time{}, 10); err != nil || !slices.ContainsFunc(actions, func(a observe.Action) bool {
		return a.Action == "erase" && a.Operator == "carol" && a.Subject == "+44770090****"
	}) {
		t.Errorf("actions: %+v, %v", actions, err)
	}
	if err := n.plugin.Erase(t.Context(), msisdn); err != nil {
		t.Errorf("again: %v", err)
	}
}
