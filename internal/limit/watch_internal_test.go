package limit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// TestBurstIsBlocked sends requests from one network for numbers all over a country, as fast as
// possible, with a clock that stands still, and again whenever a block ends.
func TestBurstIsBlocked(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		w := newWorld(t, nodes, nil)
		next := 0
		for opening := range 6 {
			sent := 0
			for range 2000 {
				next++
				if w.ask(next%nodes, anyNumber(next), fmt.Sprintf("2001:db8:77:%x::1", next%65536)) {
					sent++
				}
			}
			if sent == 0 || sent > 300*nodes {
				t.Errorf("%d nodes, opening %d: %d SMS", nodes, opening, sent)
			}
			w.advance(12 * time.Hour)
		}
	}
}

// TestBlockedNetworksCountForTheirCountry sends requests from two dozen networks that were blocked
// before, so slowly that none of them is blocked again. The country is blocked.
func TestBlockedNetworksCountForTheirCountry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	next := 0
	ask := func(network int) bool {
		next++
		return w.ask(0, anyNumber(next), fmt.Sprintf("2001:db8:%x:%x::1", network, next%65536))
	}
	for network := range 24 {
		who := subjectOf("447400123456", fmt.Sprintf("2001:db8:%x::1", network))
		s := w.nodes[0].Watch.subject(areaNetwork, who, w.now)
		s.Blocked, s.Until, s.Count = w.now-15*minute, w.now, 1
	}
	sent := 0
	for range 24 * 60 / 11 { // a day
		for network := range 24 {
			if ask(network) {
				sent++
			}
		}
		w.advance(11 * time.Minute)
	}
	if country := slices.ContainsFunc(w.blocks, func(b limits.Block) bool { return b.Country == "GB" }); sent > 1000 || !country {
		t.Errorf("%d SMS in a day; the country was blocked: %v", sent, country)
	}
}

// TestOneClientKeepsNothingBlocked lets many clients cause several blocks of a range, a country and
// a network. Then one client continues for a week: nothing stays blocked because of it.
func TestOneClientKeepsNothingBlocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	attacked := subjectOf("447401234567", "2001:db8:77:1::1")
	blocked := func() bool {
		met := Refusal{}
		w.unit(0, 0, attacked, func(g *Ledger) Refusal {
			met = g.blocked()
			return Refusal{Wait: 1} // so that nothing is stored
		})
		return met.Wait > 0
	}
	for i := range 3 * 24 * 60 {
		w.ask(0, fmt.Sprintf("44740123%04d", i*97%10_000), fmt.Sprintf("2001:db8:77:%x::1", i%4096))
		w.advance(time.Minute)
	}
	if len(w.blocks) < 6 {
		t.Fatalf("%d blocks: %+v", len(w.blocks), w.blocks)
	}
	w.advance(12 * time.Hour)
	hours := 0
	for i := range 168 * 4 {
		w.ask(0, fmt.Sprintf("44740123%04d", i*97%10_000), "2001:db8:77:9999::1")
		if i%4 == 0 && blocked() {
			hours++
		}
		w.advance(15 * time.Minute)
	}
	if hours > 0 {
		t.Errorf("blocked for %d of 168 hours", hours)
	}
}

// TestOutageIsNoPumping lets a provider deliver nothing for two hours, which blocks nothing.
// Pumping in the following hour is noticed.
func TestOutageIsNoPumping(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	people := 0
	hour := func(each time.Duration, percent int) (refused int) {
		for begin := w.now; w.now < begin+hourSpan; w.advance(each) {
			people++
			number, client := anyNumber(people), fmt.Sprintf("10.%d.%d.7", people/250, people%250)
			if !w.ask(0, number, client) {
				refused++
			} else if people%100 < percent {
				w.validate(number, client)
			}
		}
		return refused
	}
	for range 5 {
		hour(10*time.Second, 70)
	}
	for range 2 {
		if refused := hour(10*time.Second, 0); refused > 0 {
			t.Errorf("%d people are refused in an outage, blocked: %+v", refused, w.blocks)
		}
	}
	if len(w.blocks) > 0 {
		t.Errorf("in an outage the guard blocks %+v", w.blocks)
	}
	hour(2*time.Second, 0)
	if len(w.blocks) == 0 {
		t.Error("a pump is not noticed")
	}
}

// TestGuardKnowsTheHost simulates a host at which few numbers are ever validated.
func TestGuardKnowsTheHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	for i := range 10 * 360 {
		number, client := anyNumber(i), fmt.Sprintf("10.%d.%d.7", i/250, i%250)
		percent, pause := 30, 10*time.Second
		if i > 6*360 {
			percent, pause = 17, 5*time.Second // a normal variation
		}
		w.ask(0, number, client)
		if i*37%100 < percent {
			w.validate(number, client)
		}
		w.advance(pause)
	}
	if len(w.blocks) > 0 {
		t.Errorf("blocked: %+v", w.blocks)
	}
}

// TestReceiptsReachAnotherNode sends the SMS from one node, and reports to another node that none
// was delivered. Nothing is blocked on either node, nor on one that joins later.
func TestReceiptsReachAnotherNode(t *testing.T) {
	t.Parallel()
	for name, delivered := range map[string]bool{"not delivered": false, "delivered": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2, nil)
			const many = 60
			for next := range many {
				if next == many/2 {
					w.addNode(nil)
				}
				number, client := anyNumber(next), fmt.Sprintf("2001:db8:77:%x::1", next)
				w.ask(0, number, client)
				if !delivered {
					w.unit(1, 0, subjectOf(number, client), func(g *Ledger) Refusal {
						g.Undelivered()
						return Refusal{}
					})
				}
				w.advance(20 * time.Second)
				for _, node := range slices.Concat(w.nodes, w.nodes) {
					if err := node.Watch.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if blocked := len(w.blocks) > 0; blocked != delivered {
				t.Errorf("blocks: %+v", w.blocks)
			}
			if delivered {
				return
			}
			for i, node := range w.nodes {
				for key, s := range node.Watch.subjects {
					if sent, _, _ := s.totals(node.Watch.rules, w.now); sent > 0 && !strings.HasPrefix(key, "network") || sent > int64(node.Guard.MinNumbers) {
						t.Errorf("node %d counts %d SMS for %q", i, sent, key)
					}
				}
			}
		})
	}
}

// TestFailuresOfABlockedNetwork sends many SMS from a network that was blocked before, all of which
// fail. Few of them were counted for the country, so undoing the count of each one must not hide
// the SMS of others.
func TestFailuresOfABlockedNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	who := subjectOf("447400123456", "2001:db8:1::1")
	watch := w.nodes[0].Watch
	network := watch.subject(areaNetwork, who, w.now)
	network.Blocked, network.Until, network.Count = w.now-15*minute, w.now, 1
	for i := range 200 {
		number, client := anyNumber(i), fmt.Sprintf("2001:db8:1:%x::1", i)
		w.unit(0, 0, subjectOf(number, client), func(g *Ledger) Refusal {
			if met := g.TakeSMS(false); met.Wait > 0 {
				return met
			}
			g.Notice()
			return Refusal{}
		})
		w.unit(0, 0, subjectOf(number, client), func(g *Ledger) Refusal {
			g.uncount(w.now)
			return Refusal{}
		})
		w.advance(time.Second)
	}
	if sent, _, _ := watch.subject(areaCountry, who, w.now).totals(watch.rules, w.now); sent < 0 {
		t.Errorf("the country counts %d SMS", sent)
	}
}

// TestNodesShareTheGuard uses three nodes, each of which sees too little to judge alone. The
// verdict of one then applies on all of them, on a new one, and on one whose store fails.
func TestNodesShareTheGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, nil)
	flush := func() {
		for range 2 {
			for _, node := range w.nodes {
				if err := node.Watch.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	next := 0
	ask := func(node int) bool {
		next++
		return w.ask(node, anyNumber(next), fmt.Sprintf("2001:db8:77:%x::1", next))
	}
	for range 33 {
		ask(next % 3) // 11 on each node
		w.advance(20 * time.Second)
		flush()
	}
	if len(w.blocks) == 0 {
		t.Fatal("nothing is blocked")
	}
	flush()
	broken := &brokenCounters{Counters: w.shared}
	w.nodes[2].Watch.store = broken
	newcomer := w.addNode(nil)
	if err := newcomer.Watch.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for node := range w.nodes {
		if ask(node) {
			t.Errorf("node %d sends", node)
		}
	}
	if err := w.nodes[2].Watch.Flush(t.Context()); err == nil {
		t.Error("a failure is not reported")
	}
	if ask(2) {
		t.Error("a node loses its counts when its store fails")
	}
}

// TestFlushMakesUp lets the store fail once. The next Flush also writes the counts of the meantime.
func TestFlushMakesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, nil)
	broken := &brokenCounters{Counters: w.shared}
	w.nodes[0].Watch.store = broken
	for i := range 10 {
		w.ask(0, anyNumber(i), fmt.Sprintf("10.0.%d.7", i))
	}
	if err := w.nodes[0].Watch.Flush(t.Context()); err == nil {
		t.Fatal("a failure is not reported")
	}
	w.nodes[0].Watch.store = w.shared
	for _, node := range []int{0, 1} {
		w.ask(1, anyNumber(99+node), "10.1.1.7")
		if err := w.nodes[node].Watch.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	country := w.nodes[1].Watch.subject(areaCountry, subjectOf("447400000000", ""), w.now)
	if sent, _, _ := country.totals(w.nodes[1].rules(), w.now); sent != 12 {
		t.Errorf("node 1 knows of %d numbers, want 12", sent)
	}
}

// brokenCounters stores nothing.
type brokenCounters struct{ store.Counters }

func (*brokenCounters) PutCounts(context.Context, []store.Count) error { return errors.New("down") }

func (*brokenCounters) Verdicts(context.Context, int64) ([]store.Verdict, error) {
	return nil, errors.New("down")
}

// TestClocksThatDiffer sends every other one of neighbouring numbers to a node whose clock is 300
// ms ahead.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, func(l *limits.Limits, _ *limits.Guard) { l.PerRange = []limits.Limit{} })
	sent := 0
	for i := range 100 {
		if !w.askAhead(i%2, time.Duration(i%2)*300*time.Millisecond, fmt.Sprintf("44740123%04d", i), fmt.Sprintf("10.0.%d.7", i)) {
			break
		}
		sent++
		w.advance(10 * time.Millisecond)
	}
	if sent != runLength {
		t.Errorf("%d SMS to neighbouring numbers, want %d", sent, runLength)
	}
}

// TestNumbersThatValidateAreLimited lets one client request many numbers of one range at one
// instant, each of which is validated at once.
func TestNumbersThatValidateAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, nil)
	sent := 0
	for i := range 4500 {
		number := fmt.Sprintf("44740123%04d", i)
		if w.ask(0, number, "203.0.113.7") {
			sent++
			w.validate(number, "203.0.113.7")
		}
	}
	if sent != 300 {
		t.Errorf("%d SMS at one instant", sent)
	}
}

// TestWatchForgetsNetworks sends one request from each of many networks, with and without shared
// counts. Memory stays bounded.
func TestWatchForgetsNetworks(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{true, false} {
		w := newWorld(t, 1, nil)
		watch := w.nodes[0].Watch
		if !shared {
			watch.store = nil
		}
		for i := range 2000 {
			number, client := anyNumber(i), fmt.Sprintf("10.%d.%d.7", i/250, i%250)
			w.ask(0, number, client)
			w.validate(number, client)
			w.advance(10 * time.Second)
			if err := watch.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(watch.subjects); n > 2*60*6 {
			t.Errorf("shared %v: %d subjects are remembered", shared, n)
		}
	}
}
