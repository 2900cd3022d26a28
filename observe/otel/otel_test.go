package otel_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/threepid/observe"
	"example.com/threepid/observe/otel"
)

// newObserver returns an Observer, and a reader of its metrics.
func newObserver(t *testing.T) (*otel.Observer, *metric.ManualReader) {
	t.Helper()
	reader := metric.NewManualReader()
	o, err := otel.New(otel.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	if err != nil {
		t.Fatal(err)
	}
	return o, reader
}

// series returns each series, such as threepid_sms_total{country="GB"}, and its value: for a
// histogram its count and sum.
func series(t *testing.T, reader *metric.ManualReader) map[string]string {
	t.Helper()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					all[name(m.Name, p.Attributes)] = fmt.Sprint(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					all[name(m.Name, p.Attributes)] = fmt.Sprint(p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					all[name(m.Name, p.Attributes)] = fmt.Sprint(p.Count, " ", p.Sum)
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return all
}

func name(metric string, set attribute.Set) string {
	var labels []string
	for _, kv := range set.ToSlice() { // sorted
		labels = append(labels, fmt.Sprintf("%s=%q", kv.Key, kv.Value.AsString()))
	}
	return metric + "{" + strings.Join(labels, ",") + "}"
}

// events has at least one of each type.
func events() []observe.Event {
	later := time.Now().Add(time.Hour)
	return []observe.Event{
		observe.Request{Endpoint: "/account/3pid/msisdn/requestToken", Status: 200, Duration: 3 * time.Millisecond},
		observe.Request{Endpoint: "/account/3pid/msisdn/requestToken", Status: 429},
		observe.Refusal{Reason: "limit: number"},
		observe.SMS{Provider: "twilio", Country: "GB", Outcome: observe.Accepted, Segments: 2, Latency: 250 * time.Millisecond},
		observe.SMS{Provider: "twilio", Country: "", Outcome: observe.Failed, Segments: 1},
		observe.Receipt{Provider: "twilio", Status: "delivered"},
		observe.Code{Right: true},
		observe.Code{},
		observe.Validation{Country: "GB", Purpose: "add", TimeToValidate: 14 * time.Second},
		observe.Number{Change: "added"},
		observe.Block{Kind: "range", Subject: "+44740012****", Until: later},
		observe.Block{Kind: "range", Subject: "+44740013****", Until: later},
		observe.Block{Kind: "network", Subject: "203.0.113.0/24", Until: later, DryRun: true},
		observe.Unblock{Kind: "number", Subject: "+44740012****"},
		observe.Blocks{Ranges: 2},
		observe.Blocks{Ranges: 1},
		observe.Unit{Op: "update", Duration: time.Second, Failed: true, Batch: 3, Retries: 2},
		observe.Sweep{Deleted: 7},
		observe.Dropped{Count: 3},
	}
}

// TestMetrics checks how each event changes the metrics.
func TestMetrics(t *testing.T) {
	t.Parallel()
	o, reader := newObserver(t)
	for _, e := range events() {
		o.Observe(t.Context(), e)
	}
	want := map[string]string{
		`threepid_requests_total{endpoint="/account/3pid/msisdn/requestToken",status="200"}`: "1",
		`threepid_requests_total{endpoint="/account/3pid/msisdn/requestToken",status="429"}`: "1",
		`threepid_request_duration_seconds{endpoint="/account/3pid/msisdn/requestToken"}`:    "2 0.003",
		`threepid_refusals_total{reason="limit: number"}`:                                    "1",
		`threepid_sms_total{country="GB",outcome="accepted",provider="twilio"}`:              "1",
		`threepid_sms_total{country="other",outcome="failed",provider="twilio"}`:             "1",
		`threepid_sms_segments_total{country="GB",provider="twilio"}`:                        "2",
		`threepid_sms_duration_seconds{provider="twilio"}`:                                   "2 0.25",
		`threepid_receipts_total{provider="twilio",status="delivered"}`:                      "1",
		`threepid_codes_total{result="right"}`:                                               "1",
		`threepid_codes_total{result="wrong"}`:                                               "1",
		`threepid_validations_total{country="GB",purpose="add"}`:                             "1",
		`threepid_time_to_validate_seconds{}`:                                                "1 14",
		`threepid_numbers_total{change="added"}`:                                             "1",
		`threepid_blocks_total{kind="range"}`:                                                "2",
		`threepid_blocks{kind="range"}`:                                                      "1",
		`threepid_blocks{kind="country"}`:                                                    "0",
		`threepid_blocks{kind="network"}`:                                                    "0",
		`threepid_store_unit_duration_seconds{op="update"}`:                                  "1 1",
		`threepid_store_failures_total{op="update"}`:                                         "1",
		`threepid_store_retries_total{op="update"}`:                                          "2",
		`threepid_store_batch_units{op="update"}`:                                            "1 3",
		`threepid_swept_rows_total{}`:                                                        "7",
		`threepid_events_dropped_total{}`:                                                    "3",
	}
	got := series(t, reader)
	for s, value := range want {
		if got[s] != value {
			t.Errorf("%s is %q, want %q", s, got[s], value)
		}
	}
	for s := range got {
		if _, ok := want[s]; !ok {
			t.Errorf("%s is not expected", s)
		}
	}
}

// TestNamesAreThoseOfTheManual compares the names and labels with docs/OPERATIONS.md, which
// has those of package observe/prometheus.
func TestNamesAreThoseOfTheManual(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(threepid_[a-z_]+)` \\|([^|]*)\\|").FindAllStringSubmatch(string(manual), -1) {
		labels := regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(row[2], -1)
		var names []string
		for _, l := range labels {
			names = append(names, l[1])
		}
		slices.Sort(names)
		want[row[1]] = strings.Join(names, ",")
	}
	o, reader := newObserver(t)
	for _, e := range events() {
		o.Observe(t.Context(), e)
	}
	got := map[string]string{}
	for s := range series(t, reader) {
		metric, labels, _ := strings.Cut(s, "{")
		var names []string
		for _, l := range regexp.MustCompile(`([a-z]+)="`).FindAllStringSubmatch(labels, -1) {
			names = append(names, l[1])
		}
		got[metric] = strings.Join(names, ",")
	}
	if len(want) == 0 || !maps.Equal(got, want) {
		t.Errorf("metrics and labels:\n%v, the manual has\n%v", got, want)
	}
}

// TestSeriesAreBounded reports many values of every label.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	o, reader := newObserver(t)
	for i := range 2000 {
		s := fmt.Sprint("value", i)
		for _, e := range []observe.Event{
			observe.Request{Endpoint: s, Status: i},
			observe.Refusal{Reason: s},
			observe.SMS{Provider: s, Country: s, Outcome: observe.Outcome(s)},
			observe.Receipt{Provider: s, Status: s},
			observe.Validation{Country: s, Purpose: s},
			observe.Number{Change: s},
			observe.Unit{Op: s, Failed: true, Batch: 1},
			observe.Block{Kind: s},
		} {
			o.Observe(t.Context(), e)
		}
	}
	const most = 51*15 + 10 // 15 metrics whose labels have the same number here, and those without
	if n := len(series(t, reader)); n > most {
		t.Errorf("%d series", n)
	}
}

// TestCollectDuringAStorm collects while events arrive.
func TestCollectDuringAStorm(t *testing.T) {
	t.Parallel()
	o, reader := newObserver(t)
	const workers, each = 4, 500
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				for _, e := range events() {
					o.Observe(t.Context(), e)
				}
			}
		})
	}
	for range 20 {
		series(t, reader)
	}
	wg.Wait()
	if got := series(t, reader)[`threepid_events_dropped_total{}`]; got != fmt.Sprint(3*workers*each) {
		t.Errorf("%s dropped events were counted", got)
	}
}

func ExampleNew() {
	observer, err := otel.New(otel.Options{}) // with the providers of package otel
	if err != nil {
		panic(err)
	}
	_ = observer // set it as threepid.Options.Observer
}
