package plugintest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// guardTests are about blocking SMS pumping from end to end. The rules of when the guard blocks are
// tested with the guard itself.
func guardTests() []test {
	return []test{
		{"GuardBlocksARange", testGuardBlocksARange},
		{"GuardBlocksACountry", testGuardBlocksACountry},
		{"GuardBlocksACountryForAll", testGuardBlocksACountryForAll},
		{"GuardBlocksANetwork", testGuardBlocksANetwork},
		{"GuardJudgesWithoutNewcomers", testGuardJudgesWithoutNewcomers},
		{"GuardIsSoonerThanTheLimitOfARange", testGuardIsSoonerThanTheLimitOfARange},
		{"GuardSparesPeople", testGuardSparesPeople},
		{"GuardIsNotTriggeredByOneClient", testGuardIsNotTriggeredByOneClient},
		{"GuardDryRun", testGuardDryRun},
		{"GuardAllows", testGuardAllows},
		{"GuardCountsNoFailures", testGuardCountsNoFailures},
		{"GuardNoticesWhoFailedBefore", testGuardNoticesWhoFailedBefore},
		{"GuardIsSharedByNodes", testGuardIsSharedByNodes},
		{"TrustedPassesTheGuard", testTrustedPassesTheGuard},
		{"VerdictsOutliveTheirNode", testVerdictsOutliveTheirNode},
	}
}

// heardBlocks keeps the blocks that a guard reports.
type heardBlocks struct {
	mu  sync.Mutex
	all []limits.Block
}

func (c *heardBlocks) hear(block limits.Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, block)
}

// guarded switches the guard on, and switches off the limits that would refuse sooner.
func guarded(heard *heardBlocks) func(*threepid.Options) {
	return func(o *threepid.Options) {
		limited(o)
		o.Limits.PerRange = []limits.Limit{}
		o.Guard = limits.Guard{OnBlock: heard.hear}
	}
}

// pump asks for one SMS a minute, each from another client and to another number of a range, far
// from the previous ones, until one is refused.
func (n *node) pump(t *testing.T, number func(i int) string) (let int, refused answer) {
	t.Helper()
	return until(t, func(i int) answer {
		n.clock.advance(time.Minute)
		return n.asks(newSecret(), number(i))
	})
}

func scattered(block int) func(i int) string {
	return func(i int) string { return mobile(block, i*97%10_000) }
}

func testGuardBlocksARange(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	let, refused := n.pump(t, scattered(1))
	if let < 20 || let > 24 { // SMS of the last minutes do not count yet
		t.Errorf("%d SMS were sent", let)
	}
	expectLimited(t, refused, 14*time.Minute) // one minute of 15 has passed
	if len(heard.all) != 2 {                  // the block, and that of its country
		t.Fatalf("heard %+v", heard.all)
	}
	block := heard.all[0]
	want := n.clock.Now().Add(14 * time.Minute)
	if block.Range != "44740001" || block.Country != "GB" || block.Count != 1 || !block.Until.Equal(want) || block.DryRun || block.Reason == "" {
		t.Errorf("%+v", block)
	}
	for _, said := range []string{"the guard has blocked SMS to a range of numbers; Plugin.Unblock ends it", "the guard has blocked SMS to a country; Guard.Allow"} {
		if !strings.Contains(n.logs.String(), said) {
			t.Errorf("the log does not say that %s: %s", said, n.logs)
		}
	}
	n.clock.advance(14 * time.Minute)
	again, _ := n.pump(t, scattered(1))
	if again >= let {
		t.Errorf("the second time it takes %d SMS, the first time %d", again, let)
	}
}

func testGuardBlocksACountry(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	let, refused := until(t, func(i int) answer {
		n.clock.advance(time.Minute)
		return n.asks(fmt.Sprint("client", i%15), mobile(i, i*97%10_000))
	})
	if let < 20 || let > 24 || len(heard.all) != 1 || heard.all[0].Range != "" || heard.all[0].Country != "GB" {
		t.Errorf("%d SMS were sent, heard %+v", let, heard.all)
	}
	expectLimited(t, refused, 14*time.Minute)
	expect(t, n.asks("client1", "+33612345678"), http.StatusOK, "")

	// A new client gets an SMS, for one number more than it has validated.
	own := newSecret()
	ask := func(i int) answer {
		return n.as("somebody", addPath, request(map[string]any{"client_secret": own, "phone_number": mobile(90, 1), "send_attempt": i}))
	}
	expect(t, ask(1), http.StatusOK, "")
	sid := ask(2).text("sid")
	expect(t, n.asks("somebody", mobile(91, 1)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	expect(t, n.guess("somebody", sid, own, n.token()), http.StatusOK, "")
	expect(t, n.asks("somebody", mobile(91, 1)), http.StatusOK, "")
	expect(t, n.asks("somebody", mobile(92, 1)), http.StatusOK, "")
	expect(t, n.asks("somebody", mobile(93, 1)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")

	// That number still counts when other numbers fail, and when it fails later.
	for _, number := range []string{inFrance, mobile(91, 1)} {
		n.clock.advance(time.Second)
		n.sms.Fail(sms.ErrRejected)
		expect(t, n.asks("somebody", number), http.StatusBadRequest, "M_DESTINATION_REJECTED")
		expect(t, n.asks("somebody", mobile(93, 1)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	}
}

// testGuardBlocksACountryForAll simulates an attacker with an endless supply of clients, such as an
// IPv6 network. A blocked country is open to each new client, and the guard notices that they do
// not validate.
func testGuardBlocksACountryForAll(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	let, refused := until(t, func(i int) answer {
		n.clock.advance(10 * time.Second)
		return n.asks(newSecret(), mobile(i%90, i*97%10_000))
	})
	if let > 60 || len(heard.all) != 2 || heard.all[1].Reason == heard.all[0].Reason || !heard.all[1].Until.Equal(heard.all[0].Until) {
		t.Errorf("%d SMS were sent, heard %+v", let, heard.all)
	}
	expect(t, refused, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	expect(t, n.asks(newSecret(), "+33612345678"), http.StatusOK, "")
	n.clock.advance(15 * time.Minute)
	expect(t, n.asks(newSecret(), mobile(91, 1)), http.StatusOK, "")
}

// testGuardBlocksANetwork simulates an attacker with an IPv6 network. The network is blocked, and
// the country stays open to clients of other networks.
func testGuardBlocksANetwork(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	network := func(i int) string { return fmt.Sprintf("2001:db8:77:%x::1", i) }
	ask := func(client string, i int) answer { return n.asks(client, mobile(i%90, i*97%10_000)) }
	let, refused := until(t, func(i int) answer {
		n.clock.advance(10 * time.Second)
		return ask(network(i), i)
	})
	if let > 50 {
		t.Errorf("%d SMS were sent", let)
	}
	expectLimited(t, refused, 15*time.Minute-10*time.Second)
	var closed []string
	for _, c := range heard.all {
		closed = append(closed, c.Country+c.Network)
	}
	if len(closed) != 2 || !slices.Contains(closed, "2001:db8:77::/48") || !slices.Contains(closed, "GB") {
		t.Errorf("heard %+v", heard.all)
	}
	for _, number := range []string{mobile(91, 1), inFrance} {
		expect(t, n.asks(network(999), number), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	}
	for i, client := range []string{"2001:db8:78::1", "203.0.113.7"} {
		expect(t, ask(client, 2000+i), http.StatusOK, "")
	}
	if log := n.logs.String(); strings.Contains(log, "2001:db8:77:1") || !strings.Contains(log, "the guard has blocked SMS to a network of clients") {
		t.Errorf("the log has a client's address, or does not say that its network is closed: %s", log)
	}
}

// testGuardJudgesWithoutNewcomers sends requests only from clients whose SMS no longer count. The
// guard still judges the earlier counts.
func testGuardJudgesWithoutNewcomers(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	ask := func(i int) answer { return n.asks(fmt.Sprint("client", i%6), mobile(i%90, i*97%10_000)) }
	for i := range 24 { // four for each client, at once
		expect(t, ask(i), http.StatusOK, "")
	}
	n.clock.advance(5 * time.Minute)
	expect(t, ask(24), http.StatusOK, "")
	if len(heard.all) != 1 {
		t.Errorf("heard %+v", heard.all)
	}
}

func testGuardIsSoonerThanTheLimitOfARange(t *testing.T, open opener) {
	n := start(t, open(t), limited, func(o *threepid.Options) { o.Guard = limits.Guard{} })
	let, _ := until(t, func(i int) answer { return n.asks(fmt.Sprint("client", i/4), mobile(1, 1000+i)) })
	if let != 8 {
		t.Errorf("%d consecutive numbers received an SMS", let)
	}
	expect(t, n.asks("somebody", mobile(2, 1)), http.StatusOK, "")
}

func testGuardSparesPeople(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	for i := range 100 {
		client, clientSecret := newSecret(), newSecret()
		a := n.as(client, addPath, request(map[string]any{"client_secret": clientSecret, "phone_number": scattered(1)(i)}))
		expect(t, a, http.StatusOK, "")
		n.clock.advance(time.Minute)
		if i%3 == 0 {
			expect(t, n.submit(a.text("sid"), clientSecret, n.token()), http.StatusOK, "")
		}
	}
	if len(heard.all) > 0 {
		t.Errorf("heard %+v", heard.all)
	}
}

// testGuardIsNotTriggeredByOneClient makes one client ask for as much as it can for hours: its SMS
// count too little to block others.
func testGuardIsNotTriggeredByOneClient(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard), func(o *threepid.Options) { o.Limits.PerRangeAndClient = []limits.Limit{} })
	for i := range 300 {
		n.asks("attacker", scattered(i%2)(i))
		n.clock.advance(time.Minute)
	}
	if len(heard.all) > 0 {
		t.Errorf("heard %+v", heard.all)
	}
}

func testGuardDryRun(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard), func(o *threepid.Options) { o.Guard.DryRun = true })
	for i := range 40 {
		n.clock.advance(20 * time.Second)
		expect(t, n.asks(newSecret(), scattered(1)(i)), http.StatusOK, "")
	}
	if len(heard.all) != 2 || !heard.all[0].DryRun || !heard.all[1].DryRun {
		t.Errorf("heard %+v", heard.all)
	}
	if log := n.logs.String(); !strings.Contains(log, "the guard would block") || strings.Contains(log, "has blocked") {
		t.Errorf("the log does not say that it only observes: %s", log)
	}
}

func testGuardAllows(t *testing.T, open opener) {
	for _, allowed := range []string{"GB", "+447400"} {
		t.Run(allowed, func(t *testing.T) {
			t.Parallel()
			var heard heardBlocks
			n := start(t, open(t), guarded(&heard), func(o *threepid.Options) { o.Guard.Allow = []string{"FR", allowed} })
			for i := range 40 {
				n.clock.advance(time.Minute)
				expect(t, n.asks(newSecret(), scattered(1)(i)), http.StatusOK, "")
			}
			if len(heard.all) > 0 {
				t.Errorf("heard %+v", heard.all)
			}
		})
	}
}

func testGuardCountsNoFailures(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard), ticking)
	n.sms.FailAlways(fmt.Errorf("down"))
	for i := range 60 {
		n.clock.advance(time.Minute)
		expect(t, n.asks(newSecret(), mobile(1, i)), http.StatusBadGateway, "M_SEND_ERROR")
	}
	if len(heard.all) > 0 {
		t.Errorf("heard %+v", heard.all)
	}
}

// ticking advances the clock by a millisecond at each reading, as real clocks do now and then.
func ticking(o *threepid.Options) {
	var looks atomic.Int64
	now := o.Now
	o.Now = func() time.Time { return now().Add(time.Duration(looks.Add(1)) * time.Millisecond) }
}

// testGuardNoticesWhoFailedBefore makes each client ask for a number that the provider rejects,
// which costs it nothing, and then for a number that is pumped: the guard still counts the latter.
func testGuardNoticesWhoFailedBefore(t *testing.T, open opener) {
	var heard heardBlocks
	n := start(t, open(t), guarded(&heard))
	let, _ := until(t, func(i int) answer {
		n.clock.advance(time.Minute)
		client := newSecret()
		for range 5 {
			n.sms.Fail(sms.ErrRejected)
			expect(t, n.asks(client, inFrance), http.StatusBadRequest, "M_DESTINATION_REJECTED")
		}
		return n.asks(client, scattered(1)(i))
	})
	if let > 24 {
		t.Errorf("%d SMS were sent", let)
	}
}

func testGuardIsSharedByNodes(t *testing.T, open opener) {
	st := open(t)
	var heard heardBlocks
	n := start(t, st, guarded(&heard))
	other := startWith(t, st, n.sms, &logs{}, guarded(&heard), func(o *threepid.Options) { o.Now = n.clock.Now })
	let, _ := until(t, func(i int) answer {
		n.clock.advance(time.Minute)
		return []*node{n, other}[i%2].asks(newSecret(), scattered(1)(i))
	})
	if let < 20 || let > 24 {
		t.Errorf("%d SMS were sent", let)
	}
	expect(t, other.asks("somebody", mobile(1, 9999)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
}

// testTrustedPassesTheGuard makes the host's hook trust a client that solved a CAPTCHA: the SMS is
// sent although its range is blocked, but not beyond a limit.
func testTrustedPassesTheGuard(t *testing.T, open opener) {
	var heard heardBlocks
	var told []limits.Block
	n := start(t, open(t), guarded(&heard), func(o *threepid.Options) {
		withoutReserve(o)
		o.Limits.PerNumber = []limits.Limit{{Burst: 1, Every: time.Hour}}
		o.Policy.Approve = func(_ context.Context, r limits.ApprovalRequest) (limits.Approval, error) {
			told = r.Blocks
			if r.Header.Get("X-Captcha") != "" {
				return limits.Trusted, nil
			}
			return limits.Approved, nil
		}
	})
	n.pump(t, scattered(1))
	until := heard.all[0].Until
	want := []limits.Block{{Country: "GB", Range: "44740001", Count: 1, Until: until}}
	expect(t, n.asks("somebody", mobile(1, 9998)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	if !slices.Equal(told, want) {
		t.Errorf("the hook gets %+v, want %+v", told, want)
	}
	body := request(map[string]any{"client_secret": newSecret(), "phone_number": mobile(1, 9999)})
	expect(t, n.postSolved(addPath, body, "solved"), http.StatusOK, "")
	body = request(map[string]any{"client_secret": newSecret(), "phone_number": mobile(1, 9999)})
	told = nil
	expect(t, n.postSolved(addPath, body, "solved"), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	if told != nil {
		t.Error("the hook is asked about a request that a limit refuses")
	}
}

// testVerdictsOutliveTheirNode makes a node block a country and close. Another node that starts
// later knows of the block.
func testVerdictsOutliveTheirNode(t *testing.T, open opener) {
	st := open(t)
	if _, ok := st.(store.Counters); !ok {
		t.Skip("the store shares no counts between nodes")
	}
	var heard heardBlocks
	n := start(t, st, guarded(&heard))
	until(t, func(i int) answer {
		n.clock.advance(10 * time.Second)
		return n.asks(fmt.Sprintf("2001:db8:77:%x::1", i), mobile(i%90, i*97%10_000))
	})
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	next := startWith(t, st, n.sms, &logs{}, guarded(&heard), func(o *threepid.Options) { o.Now = n.clock.Now })
	expect(t, next.asks("2001:db8:77:9999::1", mobile(91, 1)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	expect(t, next.asks("2001:db8:78::1", mobile(91, 1)), http.StatusOK, "")
}
