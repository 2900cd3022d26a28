package storetest

import (
	"context"
	"sync/atomic"
	"time"

	"example.com/threepid/store"
)

// Node is a store as one process has it.
type Node interface {
	store.Store
	store.Accounts
}

// Nodes returns a store whose calls go to each node in turn, to test that several
// processes over one database behave as one. It implements store.Counters if all
// nodes do.
func Nodes(first Node, others ...Node) Node {
	n := &nodes{all: append([]Node{first}, others...)}
	var counters []store.Counters
	for _, node := range n.all {
		c, ok := node.(store.Counters)
		if !ok {
			return n
		}
		counters = append(counters, c)
	}
	return &countingNodes{nodes: n, counters: counters}
}

type nodes struct {
	all   []Node
	calls atomic.Int64
}

func (n *nodes) next() Node { return n.all[n.calls.Add(1)%int64(len(n.all))] }

func (n *nodes) View(ctx context.Context, names store.Names) (store.Rows, error) {
	return n.next().View(ctx, names)
}

func (n *nodes) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	return n.next().Update(ctx, names, change)
}

func (n *nodes) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	return n.next().DeleteExpired(ctx, now, limit)
}

func (n *nodes) Owner(ctx context.Context, msisdn string) (string, error) {
	return n.next().Owner(ctx, msisdn)
}

func (n *nodes) Associate(ctx context.Context, a store.Association) error {
	return n.next().Associate(ctx, a)
}

func (n *nodes) Dissociate(ctx context.Context, userID, msisdn string) error {
	return n.next().Dissociate(ctx, userID, msisdn)
}

func (n *nodes) List(ctx context.Context, userID string) ([]store.Association, error) {
	return n.next().List(ctx, userID)
}

// countingNodes are nodes that also share counts.
type countingNodes struct {
	*nodes

	counters []store.Counters
}

func (n *countingNodes) nextCounters() store.Counters {
	return n.counters[n.calls.Add(1)%int64(len(n.counters))]
}

func (n *countingNodes) PutCounts(ctx context.Context, counts []store.Count) error {
	return n.nextCounters().PutCounts(ctx, counts)
}

func (n *countingNodes) SumCounts(ctx context.Context, subjects []string, since int64, except string) ([]store.Count, error) {
	return n.nextCounters().SumCounts(ctx, subjects, since, except)
}

func (n *countingNodes) PutVerdicts(ctx context.Context, verdicts []store.Verdict) error {
	return n.nextCounters().PutVerdicts(ctx, verdicts)
}

func (n *countingNodes) Verdicts(ctx context.Context, since int64) ([]store.Verdict, error) {
	return n.nextCounters().Verdicts(ctx, since)
}

func (n *countingNodes) DeleteExpiredCounts(ctx context.Context, now time.Time) error {
	return n.nextCounters().DeleteExpiredCounts(ctx, now)
}
