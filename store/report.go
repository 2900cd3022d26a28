package store

import "context"

// Run is what a store knows about how it ran a unit of work.
type Run struct {
	Batch   int // how many units shared the statement or transaction, with this one
	Retries int // how often the unit was run again, because of a conflict or a lost connection
}

type runKey struct{}

// Report passes a unit's Run to the caller of View or Update. A store may call it before it
// returns, on the caller's goroutine. Without a caller that asks, it does nothing.
func Report(ctx context.Context, r Run) {
	if report, ok := ctx.Value(runKey{}).(func(Run)); ok {
		report(r)
	}
}

// WithReport returns a context for View or Update with which Report calls report.
func WithReport(ctx context.Context, report func(Run)) context.Context {
	return context.WithValue(ctx, runKey{}, report)
}
