// Package otel makes OpenTelemetry metrics and spans of a plugin's events. It depends on
// OpenTelemetry's API alone; the host chooses the SDK. It is a module of its own, so that other
// hosts do not depend on either.
//
//	observer, err := otel.New(otel.Options{})
//	plugin, err := threepid.Register(router, st, sender, threepid.Options{Observer: observer})
//
// The metrics have the names and labels of package observe/prometheus; docs/OPERATIONS.md lists
// them. Each request to an endpoint is a span, a child of the host's if its middleware has
// started one, such as that of otelgin. Units of work of the store, and SMS, are its children.
// Contexts of the store and the sender have the span too, so that what instruments the
// database or an HTTP client adds to it. No span or metric has a code, a secret or a number.
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

// Observer is an [observe.Observer] and an [observe.Starter]. Its labels have as few values as
// those of package observe/prometheus.
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
