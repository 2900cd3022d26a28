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

// spanKey is the key of the span that Start started, in a context. The current span of a context
// may be the host's, which this package must not end.
type spanKey struct{}

// Start implements [observe.Starter]: it starts the span of a request.
func (o *Observer) Start(ctx context.Context) context.Context {
	ctx = observe.NewID(ctx)
	kind := trace.SpanKindServer
	if parent := trace.SpanContextFromContext(ctx); parent.IsValid() && !parent.IsRemote() {
		kind = trace.SpanKindInternal // the parent is the host's span
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
		return // another Observer passes events on, but does not call Start
	}
	span.SetName(e.Method + " " + e.Endpoint)
	span.SetAttributes(attribute.String("http.request.method", e.Method), attribute.String("threepid.endpoint", e.Endpoint),
		attribute.Int("http.response.status_code", e.Status), attribute.String("threepid.errcode", e.ErrCode))
	if e.Status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, e.ErrCode)
	}
	span.End(trace.WithTimestamp(e.At))
}

// child adds a span that has ended to the span of ctx, if there is one. Without this condition,
// each unit of work in the background would be a trace of its own.
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
