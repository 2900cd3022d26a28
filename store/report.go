package store

import "context"

// Run describes how a store ran a unit of work.
type Run struct {
	Batch   int // how many units shared the statement or transaction, including this one
	Retries int // how often the unit was repeated after a conflict or a lost connection
}

type runKey struct{}

// Report passes a unit's Run to the caller of View or Update. A store may call it before it
// returns, on the caller's goroutine. If the caller has not asked for it, Report does nothing.
func Report(ctx context.Context, r Run) {
	if report, ok := ctx.Value(runKey{}).(func(Run)); ok {
		report(r)
	}
}

// WithReport returns a context for View or Update that makes Report call report.
func WithReport(ctx context.Context, report func(Run)) context.Context {
	return context.WithValue(ctx, runKey{}, report)
}
