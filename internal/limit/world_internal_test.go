package limit

import (
	"fmt"
	"testing"
	"time"

	"example.com/threepid/limits"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

const start = int64(1_700_000_400_000) // the beginning of an hour

// world is several nodes over one store of records, with a simulated clock.
type world struct {
	tb      testing.TB
	now     int64
	records map[store.Key]store.Record
	nodes   []*Limiter
	blocks  []limits.Block
	shared  store.Counters
}

func newWorld(tb testing.TB, nodes int, change func(*limits.Limits, *limits.Guard)) *world {
	tb.Helper()
	w := &world{tb: tb, now: start, records: make(map[store.Key]store.Record), shared: memstore.New()}
	for range nodes {
		w.addNode(change)
	}
	return w
}

func (w *world) addNode(change func(*limits.Limits, *limits.Guard)) *Limiter {
	var l limits.Limits
	var g limits.Guard
	if change != nil {
		change(&l, &g)
	}
	l, g = l.WithDefaults(), g.WithDefaults()
	name := fmt.Sprint("node ", len(w.nodes))
	node := &Limiter{Limits: l, Guard: g, Watch: NewWatch(g, w.shared, name, func() int64 { return w.now })}
	w.nodes = append(w.nodes, node)
	return node
}

func (w *world) advance(d time.Duration) { w.now += d.Milliseconds() }

func subjectOf(msisdn, client string) Subject {
	name, prefix := ClientName(client)
	return Subject{MSISDN: msisdn, Country: "GB", Client: name, Prefix: prefix, Guarded: true}
}

// unit runs a unit of work on a subject's records, on a node whose clock is ahead.
func (w *world) unit(node int, ahead time.Duration, who Subject, do func(*Ledger) Refusal) Refusal {
	w.tb.Helper()
	l := w.nodes[node]
	var rows []store.Record
	for _, key := range l.Keys(who, SMSKinds()...) {
		row := w.records[key]
		row.Key = key
		rows = append(rows, row)
	}
	g, err := l.Load(who, rows, w.now+ahead.Milliseconds(), SMSKinds()...)
	if err != nil {
		w.tb.Fatal(err)
	}
	met := do(g)
	if met.Wait > 0 {
		return met
	}
	if err := g.Put(); err != nil {
		w.tb.Fatal(err)
	}
	for _, row := range rows {
		if len(row.State) > 2000 {
			w.tb.Errorf("a record has %d bytes: %s", len(row.State), row.State)
		}
		w.records[row.Key] = row
	}
	w.blocks = append(w.blocks, l.Watch.Report(g)...)
	return met
}

// ask requests an SMS, and reports whether it is sent.
func (w *world) ask(node int, msisdn, client string) bool {
	w.tb.Helper()
	return w.askAhead(node, 0, msisdn, client)
}

func (w *world) askAhead(node int, ahead time.Duration, msisdn, client string) bool {
	w.tb.Helper()
	return w.unit(node, ahead, subjectOf(msisdn, client), func(g *Ledger) Refusal {
		met := g.TakeSMS(false)
		if met.Wait == 0 {
			g.Notice()
		}
		return met
	}).Wait == 0
}

// validate validates a number whose client asked for one SMS.
func (w *world) validate(msisdn, client string) {
	w.tb.Helper()
	w.unit(0, 0, subjectOf(msisdn, client), func(g *Ledger) Refusal {
		g.ForgiveCodes(true, true)
		g.Confirm(1, 1)
		return Refusal{}
	})
}

// anyNumber returns the ith number, from all over a country.
func anyNumber(i int) string { return fmt.Sprintf("44740%07d", i*7_654_321%10_000_000) }
