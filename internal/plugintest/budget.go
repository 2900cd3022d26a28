package plugintest

import (
	"net/http"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
)

// budgetTests are about Limits.PerCountry and Limits.Global, which nodes lease.
func budgetTests() []test {
	return []test{
		{"BudgetOfSeveralNodes", testBudgetOfSeveralNodes},
		{"BudgetLeaseEnds", testBudgetLeaseEnds},
		{"BudgetWithoutOtherLimits", testBudgetWithoutOtherLimits},
		{"BudgetOfFailedSends", testBudgetOfFailedSends},
		{"BudgetOfValidations", testBudgetOfValidations},
		{"BudgetIsWrittenRarely", testBudgetIsWrittenRarely},
	}
}

// budgetAlone sets a budget for the host and switches every other limit off.
func budgetAlone(burst int) func(*threepid.Options) {
	none := []limits.Limit{}
	return func(o *threepid.Options) {
		limited(o)
		o.Limits = limits.Limits{
			PerNumber: none, Reserve: none, PerNumberAndClient: none, PerClient: none, PerRangeAndClient: none, PerRange: none,
			LookUps: none, FailedSends: none, Global: []limits.Limit{{Burst: burst, Every: time.Hour}},
		}
	}
}

// testBudgetOfSeveralNodes makes two nodes spend a budget in turn. Together they stay within it,
// and closing a node returns its lease to the other.
func testBudgetOfSeveralNodes(t *testing.T, open opener) {
	const burst = 90
	st := open(t)
	n := start(t, st, budgetAlone(burst))
	other := startWith(t, st, n.sms, &logs{}, budgetAlone(burst), func(o *threepid.Options) { o.Now = n.clock.Now })
	nodes, sent := []*node{n, other}, 0
	for i := range burst + 10 {
		if a := nodes[i%2].asks("one", mobile(i, i)); a.status == http.StatusOK {
			sent++
		}
	}
	if sent < burst-burst/20 || sent > burst {
		t.Errorf("%d SMS of a budget of %d", sent, burst)
	}
	if err := other.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	n.clock.advance(2 * time.Second) // it asks the store again after a second
	rest, _ := until(t, func(i int) answer { return n.asks("two", mobile(i, i)) })
	if sent+rest != burst {
		t.Errorf("%d SMS, and %d after a node was closed, of a budget of %d", sent, rest, burst)
	}
}

// testBudgetLeaseEnds makes the store so slow that the lease on the budget ends before the SMS is
// claimed: the SMS may not be sent until it is leased again.
func testBudgetLeaseEnds(t *testing.T, open opener) {
	for burst, want := range map[int]int{1: http.StatusTooManyRequests, 2: http.StatusOK} {
		slow := &overtaken{Store: open(t), overtake: func() {}}
		n := start(t, slow, budgetAlone(burst))
		units := 0
		slow.overtake = func() {
			if units++; units == 2 { // the first leases, the second claims
				n.clock.advance(time.Minute)
			}
		}
		a := n.asks("one", spoken)
		if a.status != want || len(n.sms.Messages()) != burst-1 {
			t.Errorf("a budget of %d: status %d and %d SMS, want %d and %d", burst, a.status, len(n.sms.Messages()), want, burst-1)
		}
	}
}

func testBudgetWithoutOtherLimits(t *testing.T, open opener) {
	n := start(t, open(t), budgetAlone(7))
	if sent, _ := until(t, func(i int) answer { return n.asks("one", mobile(i, i)) }); sent != 7 {
		t.Errorf("%d SMS of a budget of 7", sent)
	}
	n.clock.advance(time.Hour)
	expect(t, n.asks("one", mobile(8, 8)), http.StatusOK, "")
	expect(t, n.asks("one", mobile(9, 9)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
}

// testBudgetOfFailedSends gives back SMS that were not sent, and keeps those that may have been.
func testBudgetOfFailedSends(t *testing.T, open opener) {
	n := start(t, open(t), budgetAlone(3))
	for i, failure := range []error{sms.ErrRejected, sms.ErrMisconfigured, sms.ErrRejected, sms.ErrUncertain} {
		n.sms.Fail(failure)
		if a := n.asks("one", mobile(i, i)); a.status == http.StatusOK {
			t.Errorf("the provider fails with %v: %d", failure, a.status)
		}
	}
	if sent, _ := until(t, func(i int) answer { return n.asks("two", mobile(i, i)) }); sent != 2 {
		t.Errorf("%d SMS are left of 3 after one that may have been sent", sent)
	}
}

func testBudgetOfValidations(t *testing.T, open opener) {
	n := start(t, open(t), budgetAlone(2))
	for i := range 6 { // each validation makes room for another SMS
		clientSecret := newSecret()
		a := n.as("one", addPath, request(map[string]any{"client_secret": clientSecret, "phone_number": mobile(i, i)}))
		expect(t, a, http.StatusOK, "")
		if i < 4 {
			expectSubmit(t, n.submit(a.text("sid"), clientSecret, n.token()), http.StatusOK, "")
		}
	}
	expect(t, n.asks("one", mobile(7, 7)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
}

// testBudgetIsWrittenRarely counts units of work: a lease is for many SMS.
func testBudgetIsWrittenRarely(t *testing.T, open opener) {
	const n = 30
	count := func(change func(*threepid.Options)) int {
		node, counter := startCounted(t, open, change)
		before := counter.Updates()
		for i := range n {
			expect(t, node.asks("one", mobile(i, i)), http.StatusOK, "")
		}
		return counter.Updates() - before
	}
	without := count(func(o *threepid.Options) { budgetAlone(1)(o); o.Limits.Global = nil })
	with := count(budgetAlone(20 * n))
	if with != without+1 {
		t.Errorf("%d units of work with a budget, %d without one; want one more", with, without)
	}
}
