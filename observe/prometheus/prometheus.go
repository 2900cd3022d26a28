// Package prometheus turns a plugin's events into Prometheus metrics. It is a separate module, so
// that hosts that do not use it do not depend on the Prometheus client.
//
//	metrics := prometheus.New()
//	registry.MustRegister(metrics)
//	plugin, err := threepid.Register(router, st, sender, threepid.Options{Observer: metrics})
//
// docs/OPERATIONS.md lists the metrics. The number of series is bounded: see [Metrics].
package prometheus

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/threepid/internal/metric"
	"example.com/threepid/observe"
)

// Metrics is an [observe.Observer] and a [prometheus.Collector].
//
// Labels have few values: an endpoint is one of the paths that the plugin mounts, a status is an
// HTTP status, a country is one of about 250, and a purpose is one of four. A label other than the
// country has at most fifty values; further values count as "other".
type Metrics struct {
	requests        *prometheus.CounterVec
	requestSeconds  *prometheus.HistogramVec
	refusals        *prometheus.CounterVec
	sms             *prometheus.CounterVec
	smsSegments     *prometheus.CounterVec
	smsSeconds      *prometheus.HistogramVec
	receipts        *prometheus.CounterVec
	codes           *prometheus.CounterVec
	validations     *prometheus.CounterVec
	validateSeconds prometheus.Histogram
	blocked         *prometheus.CounterVec
	blocks          *prometheus.GaugeVec
	numbers         *prometheus.CounterVec
	unitSeconds     *prometheus.HistogramVec
	unitFailures    *prometheus.CounterVec
	unitRetries     *prometheus.CounterVec
	batchUnits      *prometheus.HistogramVec
	swept           prometheus.Counter
	dropped         prometheus.Counter

	labels metric.Labels
}

var (
	_ observe.Observer     = (*Metrics)(nil)
	_ prometheus.Collector = (*Metrics)(nil)
)

// New returns Metrics to register with a registry and to set as Options.Observer.
func New() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	quick := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	return &Metrics{
		requests:       counter("threepid_requests_total", "Requests to the endpoints.", "endpoint", "status"),
		requestSeconds: histogram("threepid_request_duration_seconds", "Time until the response to a request.", quick, "endpoint"),
		refusals:       counter("threepid_refusals_total", "Requests that were refused, by reason.", "reason"),
		sms:            counter("threepid_sms_total", "SMS that were passed to a provider, by outcome.", "provider", "country", "outcome"),
		smsSegments:    counter("threepid_sms_segments_total", "Segments of the accepted SMS, which is what providers bill.", "provider", "country"),
		smsSeconds:     histogram("threepid_sms_duration_seconds", "Time until a provider responded.", quick, "provider"),
		receipts:       counter("threepid_receipts_total", "Delivery receipts, by status.", "provider", "status"),
		codes:          counter("threepid_codes_total", "Codes that were compared, by result: right or wrong.", "result"),
		validations:    counter("threepid_validations_total", "Numbers that were validated.", "country", "purpose"),
		validateSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "threepid_time_to_validate_seconds", Help: "Time from the SMS to the validation.",
			Buckets: []float64{5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600},
		}),
		blocked:      counter("threepid_blocks_total", "Blocks by the guard: a range, a country or a network.", "kind"),
		blocks:       prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "threepid_blocks", Help: "Ranges, countries and networks that the guard of all nodes blocks now."}, []string{"kind"}),
		numbers:      counter("threepid_numbers_total", "Numbers that were added to accounts, removed or released.", "change"),
		unitSeconds:  histogram("threepid_store_unit_duration_seconds", "Duration of a unit of work of the store.", quick, "op"),
		unitFailures: counter("threepid_store_failures_total", "Units of work that the store failed.", "op"),
		unitRetries:  counter("threepid_store_retries_total", "How often units of work were run again, because of conflicts or lost connections.", "op"),
		batchUnits:   histogram("threepid_store_batch_units", "Units of work that shared a statement or transaction.", []float64{1, 2, 4, 8, 16, 32, 64, 128}, "op"),
		swept:        prometheus.NewCounter(prometheus.CounterOpts{Name: "threepid_swept_rows_total", Help: "Expired rows that were deleted."}),
		dropped:      prometheus.NewCounter(prometheus.CounterOpts{Name: "threepid_events_dropped_total", Help: "Events that were dropped because the observer was too slow."}),
	}
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.requests, m.requestSeconds, m.refusals, m.sms, m.smsSegments, m.smsSeconds, m.receipts, m.codes, m.validations,
		m.validateSeconds, m.blocked, m.blocks, m.numbers, m.unitSeconds, m.unitFailures, m.unitRetries, m.batchUnits, m.swept, m.dropped,
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}

// Observe implements observe.Observer.
func (m *Metrics) Observe(_ context.Context, event observe.Event) {
	switch e := event.(type) {
	case observe.Request:
		endpoint := m.labels.Bound("endpoint", e.Endpoint)
		m.requests.WithLabelValues(endpoint, m.labels.Bound("status", strconv.Itoa(e.Status))).Inc()
		m.requestSeconds.WithLabelValues(endpoint).Observe(e.Duration.Seconds())
	case observe.Refusal:
		m.refusals.WithLabelValues(m.labels.Bound("reason", e.Reason)).Inc()
	case observe.SMS:
		provider, country := m.labels.Bound("provider", e.Provider), metric.Country(e.Country)
		m.sms.WithLabelValues(provider, country, m.labels.Bound("outcome", string(e.Outcome))).Inc()
		m.smsSeconds.WithLabelValues(provider).Observe(e.Latency.Seconds())
		if e.Outcome == observe.Accepted {
			m.smsSegments.WithLabelValues(provider, country).Add(float64(e.Segments))
		}
	case observe.Receipt:
		m.receipts.WithLabelValues(m.labels.Bound("provider", e.Provider), m.labels.Bound("receipt", e.Status)).Inc()
	case observe.Code:
		m.codes.WithLabelValues(metric.Result(e.Right)).Inc()
	case observe.Validation:
		m.validations.WithLabelValues(metric.Country(e.Country), m.labels.Bound("purpose", e.Purpose)).Inc()
		m.validateSeconds.Observe(e.TimeToValidate.Seconds())
	case observe.Number:
		m.numbers.WithLabelValues(m.labels.Bound("change", e.Change)).Inc()
	default:
		m.observeOperation(event)
	}
}

// observeOperation counts the events of the guard, the store and the Observer's queue.
func (m *Metrics) observeOperation(event observe.Event) {
	switch e := event.(type) {
	case observe.Block:
		if e.DryRun {
			return
		}
		m.blocked.WithLabelValues(m.labels.Bound("kind", e.Kind)).Inc()
	case observe.Blocks:
		m.blocks.WithLabelValues("range").Set(float64(e.Ranges))
		m.blocks.WithLabelValues("country").Set(float64(e.Countries))
		m.blocks.WithLabelValues("network").Set(float64(e.Networks))
	case observe.Unit:
		op := m.labels.Bound("op", e.Op)
		m.unitSeconds.WithLabelValues(op).Observe(e.Duration.Seconds())
		if e.Failed {
			m.unitFailures.WithLabelValues(op).Inc()
		}
		if e.Batch > 0 {
			m.batchUnits.WithLabelValues(op).Observe(float64(e.Batch))
		}
		m.unitRetries.WithLabelValues(op).Add(float64(e.Retries))
	case observe.Sweep:
		m.swept.Add(float64(e.Deleted))
	case observe.Dropped:
		m.dropped.Add(float64(e.Count))
	}
}
