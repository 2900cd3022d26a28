package otel

import (
	"context"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"example.com/threepid/observe"
)

// spanKey is where a context has the span of Start. A context may have the host's span instead,
// which is not ours to end.
type spanKey struct{}

// Start implements [observe.Starter]: it starts the span of a request.
func (o *Observer) Start(ctx context.Context) context.Context {
	ctx = observe.NewID(ctx)
	kind := trace.SpanKindServer
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() && !parent.IsRemote() {
		kind = trace.SpanKindInternal // within the host's
	}
	ctx, span := o.tracer.Start(ctx, "threepid request", trace.WithSpanKind(kind),
		trace.WithAttributes(attribute.String("threepid.request_id", observe.ID(ctx))))
	return context.WithValue(ctx, spanKey{}, span)
}

// trace adds an event to the trace of its request.
func (o *Observer) trace(ctx context.Context, event observe.Event) {
	switch e := event.(type) {
	case observe.Request:
		o.endRequest(ctx, e)
	case observe.Refusal:
		if span, ok := ctx.Value(spanKey{}).(trace.Span); ok {
			span.SetAttributes(attribute.String("threepid.refusal", e.Reason))
		}
	case observe.SMS:
		o.child(ctx, "threepid sms", e.At, e.Latency, e.Outcome == observe.Failed || e.Outcome == observe.Unknown,
			attribute.String("threepid.provider", e.Provider), attribute.String("threepid.country", e.Country),
			attribute.String("threepid.purpose", e.Purpose), attribute.String("threepid.outcome", string(e.Outcome)),
			attribute.String("threepid.message_id", e.MessageID), attribute.Int("threepid.segments", e.Segments))
	case observe.Unit:
		o.child(ctx, "threepid store "+e.Op, e.At, e.Duration, e.Failed,
			attribute.Int("threepid.batch", e.Batch), attribute.Int("threepid.retries", e.Retries))
	}
}

func (o *Observer) endRequest(ctx context.Context, e observe.Request) {
	span, ok := ctx.Value(spanKey{}).(trace.Span)
	if !ok {
		return // another Observer passes on the events alone
	}
	span.SetName(e.Method + " " + e.Endpoint)
	span.SetAttributes(attribute.String("http.request.method", e.Method), attribute.String("threepid.endpoint", e.Endpoint),
		attribute.Int("http.response.status_code", e.Status), attribute.String("threepid.errcode", e.ErrCode))
	if e.Status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, e.ErrCode)
	}
	span.End(trace.WithTimestamp(e.At))
}

// child adds a span that has ended, unless there is none to add it to: the units of work of the
// background would be traces of their own.
func (o *Observer) child(ctx context.Context, name string, at time.Time, d time.Duration, failed bool, attributes ...attribute.KeyValue) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	_, span := o.tracer.Start(ctx, name, trace.WithTimestamp(at.Add(-d)), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	if failed {
		span.SetStatus(codes.Error, "")
	}
	span.End(trace.WithTimestamp(at))
}
