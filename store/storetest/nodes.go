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

// Nodes returns a store whose calls go to each node in turn, to test that
// several processes over one database behave as one. There must be at least one.
func Nodes(first Node, others ...Node) Node {
	return &nodes{all: append([]Node{first}, others...)}
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
