package storetest

import (
	"context"
	"sync/atomic"
	"time"

	"example.com/threepid/store"
)

// Node is a store as used by one process.
type Node interface {
	store.Store
	store.Accounts
}

// Nodes returns a store that passes its calls to each node in turn, to test that several processes
// over one database behave like one. It implements store.Counters and store.History if all nodes
// do.
func Nodes(first Node, others ...Node) Node {
	n := &nodes{all: append([]Node{first}, others...)}
	var sharing []sharingNode
	for _, node := range n.all {
		s, ok := node.(sharingNode)
		if !ok {
			return n
		}
		sharing = append(sharing, s)
	}
	return &sharingNodes{nodes: n, sharing: sharing}
}

// sharingNode is a Node that also implements store.Counters and store.History.
type sharingNode interface {
	store.Counters
	store.History
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

// sharingNodes are nodes that also share counts and a history.
type sharingNodes struct {
	*nodes

	sharing []sharingNode
}

func (n *sharingNodes) nextSharing() sharingNode {
	return n.sharing[n.calls.Add(1)%int64(len(n.sharing))]
}

func (n *sharingNodes) PutCounts(ctx context.Context, counts []store.Count) error {
	return n.nextSharing().PutCounts(ctx, counts)
}

func (n *sharingNodes) SumCounts(ctx context.Context, subjects []string, since int64, except string) ([]store.Count, error) {
	return n.nextSharing().SumCounts(ctx, subjects, since, except)
}

func (n *sharingNodes) PutVerdicts(ctx context.Context, verdicts []store.Verdict) error {
	return n.nextSharing().PutVerdicts(ctx, verdicts)
}

func (n *sharingNodes) Verdicts(ctx context.Context, since int64) ([]store.Verdict, error) {
	return n.nextSharing().Verdicts(ctx, since)
}

func (n *sharingNodes) DeleteExpiredCounts(ctx context.Context, now time.Time) error {
	return n.nextSharing().DeleteExpiredCounts(ctx, now)
}

func (n *sharingNodes) PutTotals(ctx context.Context, totals []store.Total) error {
	return n.nextSharing().PutTotals(ctx, totals)
}

func (n *sharingNodes) Totals(ctx context.Context, from, to int64) ([]store.Total, error) {
	return n.nextSharing().Totals(ctx, from, to)
}

func (n *sharingNodes) AddEntries(ctx context.Context, entries []store.Entry) error {
	return n.nextSharing().AddEntries(ctx, entries)
}

func (n *sharingNodes) Entries(ctx context.Context, subject store.Key, since int64, limit int) ([]store.Entry, error) {
	return n.nextSharing().Entries(ctx, subject, since, limit)
}

func (n *sharingNodes) EntriesByRef(ctx context.Context, ref store.Key, limit int) ([]store.Entry, error) {
	return n.nextSharing().EntriesByRef(ctx, ref, limit)
}

func (n *sharingNodes) DeleteEntries(ctx context.Context, subject store.Key) error {
	return n.nextSharing().DeleteEntries(ctx, subject)
}

func (n *sharingNodes) DeleteExpiredHistory(ctx context.Context, now time.Time, limit int) (int, error) {
	return n.nextSharing().DeleteExpiredHistory(ctx, now, limit)
}

func (n *sharingNodes) SessionsOf(ctx context.Context, msisdn string, limit int) ([]store.Session, error) {
	return n.nextSharing().SessionsOf(ctx, msisdn, limit)
}
