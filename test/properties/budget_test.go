package properties_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"example.com/threepid/internal/limit"
	"example.com/threepid/limits"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

const (
	leaseSpan = 45 * time.Second
	maxSkew   = 2 * time.Second
)

var errDown = errors.New("the store is down")

// flaky is a store that fails before or after a unit of work is stored.
type flaky struct {
	store.Store
	before, after bool
}

func (f *flaky) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	if f.before {
		return errDown
	}
	if err := f.Store.Update(ctx, names, change); err != nil {
		return err
	}
	if f.after {
		return errDown
	}
	return nil
}

// spender is a node that spends a budget. Its clock is off by skew.
type spender struct {
	*limit.Budgets

	skew   time.Duration
	store  *flaky
	unsent []taken
}

// taken is an SMS that was taken from the budget, and when.
type taken struct {
	limit.Grant

	at time.Time
}

// budgetMachine simulates several spenders of one budget.
type budgetMachine struct {
	limit limits.Limit
	now   time.Time
	store store.Store
	nodes []*spender
	made  int         // number of nodes so far, including those that died
	sent  []time.Time // when the SMS that were sent had been taken
}

func (m *budgetMachine) add(t *rapid.T) {
	n := &spender{store: &flaky{Store: m.store}, skew: time.Duration(rapid.Int64Range(0, int64(maxSkew)).Draw(t, "skew"))}
	m.made++
	n.Budgets = limit.NewBudgets(limits.Limits{Global: []limits.Limit{m.limit}}, n.store, fmt.Sprint("node ", m.made), leaseSpan,
		func() int64 { return m.now.Add(n.skew).UnixMilli() })
	m.nodes = append(m.nodes, n)
}

func (m *budgetMachine) pick(t *rapid.T) *spender {
	return m.nodes[rapid.IntRange(0, len(m.nodes)-1).Draw(t, "node")]
}

func anyone() limit.Subject { return limit.Subject{MSISDN: "447700900001", Country: "GB"} }

// take takes SMS, which are sent later or not at all.
func (m *budgetMachine) take(t *rapid.T) {
	n := m.pick(t)
	for range rapid.IntRange(1, 200).Draw(t, "SMS") {
		grant, met, err := n.Take(t.Context(), anyone())
		if err != nil && !errors.Is(err, errDown) {
			t.Fatal(err)
		}
		if err != nil || met.Wait > 0 {
			return
		}
		n.unsent = append(n.unsent, taken{grant, m.now})
	}
}

func (m *budgetMachine) send(t *rapid.T) {
	n := m.pick(t)
	for _, sms := range n.unsent {
		if n.Valid(sms.Grant) {
			m.sent = append(m.sent, sms.at)
			if m.now.Sub(sms.at) > leaseSpan {
				t.Fatalf("sent %v after it was taken", m.now.Sub(sms.at))
			}
		}
	}
	slices.SortFunc(m.sent, time.Time.Compare)
	n.unsent = nil
}

func (m *budgetMachine) giveBack(t *rapid.T) {
	n := m.pick(t)
	for _, sms := range n.unsent {
		n.Return(sms.Grant)
	}
	n.unsent = nil
}

func (m *budgetMachine) flush(t *rapid.T) {
	err := m.pick(t).Flush(t.Context(), rapid.Bool().Draw(t, "all"))
	if err != nil && !errors.Is(err, errDown) {
		t.Fatal(err)
	}
}

func (m *budgetMachine) advance(t *rapid.T) {
	m.now = m.now.Add(time.Duration(rapid.Int64Range(0, int64(leaseSpan)).Draw(t, "time")))
}

func (m *budgetMachine) breakStore(t *rapid.T) {
	n := m.pick(t)
	n.store.before, n.store.after = rapid.Bool().Draw(t, "before"), rapid.Bool().Draw(t, "after")
}

// die drops a node with everything that it holds, and starts another one.
func (m *budgetMachine) die(t *rapid.T) {
	i := rapid.IntRange(0, len(m.nodes)-1).Draw(t, "node")
	m.nodes = append(m.nodes[:i], m.nodes[i+1:]...)
	m.add(t)
}

// check compares every span of time with the bound: Burst, one for each Every, and what the nodes
// held when the span began. A request may send its SMS until the lease ends.
func (m *budgetMachine) check(t *rapid.T) {
	held := max(m.made, m.limit.Burst/20)
	for i, from := range m.sent {
		for j := i; j < len(m.sent); j++ {
			span := m.sent[j].Sub(from) + maxSkew
			if n, most := j-i+1, m.limit.Burst+int(span/m.limit.Every)+1+held; n > most {
				t.Fatalf("%d SMS in %v, want %d at most", n, span-maxSkew, most)
			}
		}
	}
}

// TestBudgetIsNeverExceeded simulates nodes whose clocks differ, that die, and whose store fails.
func TestBudgetIsNeverExceeded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &budgetMachine{
			limit: limits.Limit{
				Burst: rapid.IntRange(1, 200).Draw(t, "burst"),
				Every: time.Duration(rapid.IntRange(1, 10).Draw(t, "every")) * time.Second,
			},
			now: time.Unix(1_700_000_000, 0), store: memstore.New(),
		}
		for range rapid.IntRange(1, 4).Draw(t, "nodes") {
			m.add(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"take": m.take, "send": m.send, "giveBack": m.giveBack, "flush": m.flush, "advance": m.advance,
			"breakStore": m.breakStore, "die": m.die, "": m.check,
		})
	})
}

// TestLeaseEnds stops a node for longer than its lease. The rest of the lease may not be sent, and
// is not given back.
func TestLeaseEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &budgetMachine{limit: limits.Limit{Burst: 40, Every: 24 * time.Hour}, now: time.Unix(1_700_000_000, 0), store: memstore.New()}
		m.add(t)
		n, lost := m.nodes[0], rapid.IntRange(1, 40).Draw(t, "lost")
		for range lost {
			grant, _, err := n.Take(t.Context(), anyone())
			if err != nil || !n.Valid(grant) {
				t.Fatalf("%v, valid: %v", err, n.Valid(grant))
			}
			n.unsent = append(n.unsent, taken{grant, m.now})
		}
		leased := (lost + 1) / 2 * 2 // two at a time
		m.now = m.now.Add(leaseSpan)
		for _, sms := range n.unsent {
			if n.Valid(sms.Grant) {
				t.Fatal("valid after its lease")
			}
			n.Return(sms.Grant)
		}
		for i := range 40 - leased + 1 {
			if _, met, _ := n.Take(t.Context(), anyone()); (met.Wait > 0) != (i == 40-leased) {
				t.Fatalf("%d of %d SMS are left", i, 40-leased)
			}
		}
	})
}

// TestBudgetOfOneNodeIsExact lets one node send a complete budget and nothing more.
func TestBudgetOfOneNodeIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &budgetMachine{
			limit: limits.Limit{Burst: rapid.IntRange(1, 500).Draw(t, "burst"), Every: time.Hour},
			now:   time.Unix(1_700_000_000, 0), store: memstore.New(),
		}
		m.add(t)
		n, spent := m.nodes[0], 0
		for spent <= m.limit.Burst {
			grant, met, err := n.Take(t.Context(), anyone())
			if err != nil {
				t.Fatal(err)
			}
			if met.Wait > 0 {
				break
			}
			if spent++; rapid.IntRange(0, 9).Draw(t, "not sent") == 0 {
				n.Return(grant)
				spent--
			}
		}
		if spent != m.limit.Burst {
			t.Fatalf("%d SMS of a budget of %d", spent, m.limit.Burst)
		}
		n.Validated(anyone(), 1)
		if _, met, err := n.Take(t.Context(), anyone()); err != nil || met.Wait > 0 {
			t.Fatalf("after a validation: %+v, %v", met, err)
		}
	})
}
