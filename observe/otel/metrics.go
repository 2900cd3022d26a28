package otel

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	labels "example.com/threepid/internal/metric"
	"example.com/threepid/observe"
)

// instruments have the names and labels of the metrics of package observe/prometheus.
type instruments struct {
	requests, refusals, sms, smsSegments, receipts, codes, validations   counter
	blocked, numbers, unitFailures, unitRetries, swept, dropped          counter
	blocks                                                               gauge
	requestSeconds, smsSeconds, validateSeconds, unitSeconds, batchUnits histogram
}

type (
	counter   struct{ metric.Int64Counter }
	gauge     struct{ metric.Int64Gauge }
	histogram struct{ metric.Float64Histogram }
)

// add adds n to the series with these labels; pairs are names and values in turn.
func (c counter) add(ctx context.Context, n int, pairs ...string) {
	c.Add(ctx, int64(n), metric.WithAttributeSet(attributes(pairs)))
}

func (g gauge) set(ctx context.Context, n int, pairs ...string) {
	g.Record(ctx, int64(n), metric.WithAttributeSet(attributes(pairs)))
}

func (h histogram) record(ctx context.Context, v float64, pairs ...string) {
	h.Record(ctx, v, metric.WithAttributeSet(attributes(pairs)))
}

func attributes(pairs []string) attribute.Set {
	list := make([]attribute.KeyValue, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, attribute.String(pairs[i], pairs[i+1]))
	}
	return attribute.NewSet(list...)
}

// maker makes instruments, and collects the errors.
type maker struct {
	meter metric.Meter
	errs  []error
}

func (m *maker) counter(name, help string) counter {
	c, err := m.meter.Int64Counter(name, metric.WithDescription(help))
	m.errs = append(m.errs, err)
	return counter{c}
}

func (m *maker) histogram(name, unit, help string, bounds ...float64) histogram {
	h, err := m.meter.Float64Histogram(name, metric.WithDescription(help), metric.WithUnit(unit), metric.WithExplicitBucketBoundaries(bounds...))
	m.errs = append(m.errs, err)
	return histogram{h}
}

func (m *maker) gauge(name, help string) gauge {
	g, err := m.meter.Int64Gauge(name, metric.WithDescription(help))
	m.errs = append(m.errs, err)
	return gauge{g}
}

func (m *maker) instruments() instruments {
	quick := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	return instruments{
		requests:       m.counter("threepid_requests_total", "Requests to the endpoints."),
		requestSeconds: m.histogram("threepid_request_duration_seconds", "s", "Time until the response to a request.", quick...),
		refusals:       m.counter("threepid_refusals_total", "Requests that were refused, by reason."),
		sms:            m.counter("threepid_sms_total", "SMS that were passed to a provider, by outcome."),
		smsSegments:    m.counter("threepid_sms_segments_total", "Segments of the accepted SMS, which is what providers bill."),
		smsSeconds:     m.histogram("threepid_sms_duration_seconds", "s", "Time until a provider responded.", quick...),
		receipts:       m.counter("threepid_receipts_total", "Delivery receipts, by status."),
		codes:          m.counter("threepid_codes_total", "Codes that were compared, by result: right or wrong."),
		validations:    m.counter("threepid_validations_total", "Numbers that were validated."),
		validateSeconds: m.histogram("threepid_time_to_validate_seconds", "s", "Time from the SMS to the validation.",
			5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600),
		blocked:      m.counter("threepid_blocks_total", "Blocks by the guard: a range, a country or a network."),
		blocks:       m.gauge("threepid_blocks", "Ranges, countries and networks that the guard of all nodes blocks now."),
		numbers:      m.counter("threepid_numbers_total", "Numbers that were added to accounts, removed or released."),
		unitSeconds:  m.histogram("threepid_store_unit_duration_seconds", "s", "Duration of a unit of work of the store.", quick...),
		unitFailures: m.counter("threepid_store_failures_total", "Units of work that the store failed."),
		unitRetries:  m.counter("threepid_store_retries_total", "How often units of work were run again, because of conflicts or lost connections."),
		batchUnits:   m.histogram("threepid_store_batch_units", "{unit}", "Units of work that shared a statement or transaction.", 1, 2, 4, 8, 16, 32, 64, 128),
		swept:        m.counter("threepid_swept_rows_total", "Expired rows that were deleted."),
		dropped:      m.counter("threepid_events_dropped_total", "Events that were dropped because the observer was too slow."),
	}
}

func (o *Observer) count(ctx context.Context, event observe.Event) {
	switch e := event.(type) {
	case observe.Request:
		endpoint := o.labels.Bound("endpoint", e.Endpoint)
		o.requests.add(ctx, 1, "endpoint", endpoint, "status", o.labels.Bound("status", strconv.Itoa(e.Status)))
		o.requestSeconds.record(ctx, e.Duration.Seconds(), "endpoint", endpoint)
	case observe.Refusal:
		o.refusals.add(ctx, 1, "reason", o.labels.Bound("reason", e.Reason))
	case observe.SMS:
		o.countSMS(ctx, e)
	case observe.Receipt:
		o.receipts.add(ctx, 1, "provider", o.labels.Bound("provider", e.Provider), "status", o.labels.Bound("receipt", e.Status))
	case observe.Code:
		o.codes.add(ctx, 1, "result", labels.Result(e.Right))
	case observe.Validation:
		o.validations.add(ctx, 1, "country", labels.Country(e.Country), "purpose", o.labels.Bound("purpose", e.Purpose))
		o.validateSeconds.record(ctx, e.TimeToValidate.Seconds())
	case observe.Number:
		o.numbers.add(ctx, 1, "change", o.labels.Bound("change", e.Change))
	default:
		o.countOperation(ctx, event)
	}
}

func (o *Observer) countSMS(ctx context.Context, e observe.SMS) {
	provider, country := o.labels.Bound("provider", e.Provider), labels.Country(e.Country)
	o.sms.add(ctx, 1, "provider", provider, "country", country, "outcome", o.labels.Bound("outcome", string(e.Outcome)))
	o.smsSeconds.record(ctx, e.Latency.Seconds(), "provider", provider)
	if e.Outcome == observe.Accepted {
		o.smsSegments.add(ctx, e.Segments, "provider", provider, "country", country)
	}
}

// countOperation counts the events of the guard, the store and the Observer's queue.
func (o *Observer) countOperation(ctx context.Context, event observe.Event) {
	switch e := event.(type) {
	case observe.Block:
		if e.DryRun {
			return
		}
		o.blocked.add(ctx, 1, "kind", o.labels.Bound("kind", e.Kind))
	case observe.Blocks:
		o.blocks.set(ctx, e.Ranges, "kind", "range")
		o.blocks.set(ctx, e.Countries, "kind", "country")
		o.blocks.set(ctx, e.Networks, "kind", "network")
	case observe.Unit:
		op := o.labels.Bound("op", e.Op)
		o.unitSeconds.record(ctx, e.Duration.Seconds(), "op", op)
		o.unitRetries.add(ctx, e.Retries, "op", op)
		if e.Failed {
			o.unitFailures.add(ctx, 1, "op", op)
		}
		if e.Batch > 0 {
			o.batchUnits.record(ctx, float64(e.Batch), "op", op)
		}
	case observe.Sweep:
		o.swept.add(ctx, e.Deleted)
	case observe.Dropped:
		o.dropped.add(ctx, e.Count)
	}
}
