package sms

import "context"

// Result is what a Sender knows about a message in addition to Send's error.
type Result struct {
	Provider  string // a short name, such as "twilio"
	MessageID string // the provider's own ID of the message, which its delivery receipts have
}

type reportKey struct{}

// Report passes the Result of a message to the caller of Send. A Sender may call it
// before it returns, also with an error. Of several calls, the latest nonempty field counts:
// a Sender that wraps others overrides their name. Without a caller that asks, it does nothing.
func Report(ctx context.Context, r Result) {
	if report, ok := ctx.Value(reportKey{}).(func(Result)); ok {
		report(r)
	}
}

// WithReport returns a context for Send with which Report calls report.
func WithReport(ctx context.Context, report func(Result)) context.Context {
	return context.WithValue(ctx, reportKey{}, report)
}
