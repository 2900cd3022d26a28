// Package otel turns a plugin's events into OpenTelemetry metrics and spans. It depends only on
// OpenTelemetry's API; the host chooses the SDK. It is a separate module, so that hosts that do
// not use it do not depend on OpenTelemetry.
//
//	observer, err := otel.New(otel.Options{})
//	plugin, err := threepid.Register(router, st, sender, threepid.Options{Observer: observer})
//
// The metrics have the names and labels of package observe/prometheus; docs/OPERATIONS.md lists
// them. Each request to an endpoint is a span. If middleware of the host, such as otelgin, has
// started a span, the request's span is a child of that. Units of work of the store, and SMS, are
// children of the request's span. The contexts of the store and the sender carry that span too, so
// that instrumentation of the database or of an HTTP client adds children to it. No span or metric
// contains a code, a secret or a phone number.
package otel

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	labels "example.com/threepid/internal/metric"
	"example.com/threepid/observe"
)

const scope = "example.com/threepid/observe/otel"

// Options configure an [Observer]. The zero value works.
type Options struct {
	// MeterProvider makes the instruments. Defaults to otel.GetMeterProvider().
	MeterProvider metric.MeterProvider

	// TracerProvider makes the spans. Defaults to otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
}

// Observer is an [observe.Observer] and an [observe.Starter]. The number of values of its
// labels is bounded as in package observe/prometheus.
type Observer struct {
	tracer trace.Tracer
	labels labels.Labels

	instruments
}

var (
	_ observe.Observer = (*Observer)(nil)
	_ observe.Starter  = (*Observer)(nil)
)

// New returns an Observer to set as Options.Observer.
func New(o Options) (*Observer, error) {
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	m := maker{meter: o.MeterProvider.Meter(scope)}
	observer := &Observer{tracer: o.TracerProvider.Tracer(scope), instruments: m.instruments()}
	return observer, errors.Join(m.errs...)
}

// Observe implements [observe.Observer].
func (o *Observer) Observe(ctx context.Context, event observe.Event) {
	o.count(ctx, event)
	o.trace(ctx, event)
}
