package prometheus_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"example.com/threepid/observe"
	"example.com/threepid/observe/prometheus"
)

// TestMetrics checks how each event changes the metrics.
func TestMetrics(t *testing.T) {
	t.Parallel()
	m := prometheus.New()
	later := time.Now().Add(time.Hour)
	for _, e := range []observe.Event{
		observe.Request{Endpoint: "/account/3pid/msisdn/requestToken", Status: 200, Duration: 3 * time.Millisecond},
		observe.Request{Endpoint: "/account/3pid/msisdn/requestToken", Status: 429},
		observe.Refusal{Reason: "limit: number"},
		observe.SMS{Provider: "twilio", Country: "GB", Outcome: observe.Accepted, Segments: 2, Latency: 70 * time.Millisecond},
		observe.SMS{Provider: "twilio", Country: "", Outcome: observe.Failed, Segments: 1},
		observe.Receipt{Provider: "twilio", Status: "delivered"},
		observe.Code{Right: true},
		observe.Code{},
		observe.Code{},
		observe.Validation{Country: "GB", Purpose: "add", TimeToValidate: 14 * time.Second},
		observe.Number{Change: "added"},
		observe.Block{Kind: "range", Subject: "+44740012****", Until: later},
		observe.Block{Kind: "range", Subject: "+44740013****", Until: later},
		observe.Block{Kind: "country", Subject: "FR", Until: time.Now().Add(-time.Second)},
		observe.Block{Kind: "network", Subject: "203.0.113.0/24", Until: later, DryRun: true},
		observe.Unblock{Kind: "number", Subject: "+44740012****"},
		observe.Blocks{Ranges: 2},
		observe.Blocks{Ranges: 1},
		observe.Unit{Op: "update", Duration: time.Millisecond, Failed: true, Batch: 3, Retries: 2},
		observe.Sweep{Deleted: 7},
		observe.Dropped{Count: 3},
	} {
		m.Observe(t.Context(), e)
	}
	const want = `
# HELP threepid_blocks Ranges, countries and networks that the guard of all nodes blocks now.
# TYPE threepid_blocks gauge
threepid_blocks{kind="country"} 0
threepid_blocks{kind="network"} 0
threepid_blocks{kind="range"} 1
# HELP threepid_blocks_total Blocks by the guard: a range, a country or a network.
# TYPE threepid_blocks_total counter
threepid_blocks_total{kind="country"} 1
threepid_blocks_total{kind="range"} 2
# HELP threepid_codes_total Codes that were compared, by result: right or wrong.
# TYPE threepid_codes_total counter
threepid_codes_total{result="right"} 1
threepid_codes_total{result="wrong"} 2
# HELP threepid_events_dropped_total Events that were dropped because the observer was too slow.
# TYPE threepid_events_dropped_total counter
threepid_events_dropped_total 3
# HELP threepid_numbers_total Numbers that were added to accounts, removed or released.
# TYPE threepid_numbers_total counter
threepid_numbers_total{change="added"} 1
# HELP threepid_receipts_total Delivery receipts, by status.
# TYPE threepid_receipts_total counter
threepid_receipts_total{provider="twilio",status="delivered"} 1
# HELP threepid_refusals_total Requests that were refused, by reason.
# TYPE threepid_refusals_total counter
threepid_refusals_total{reason="limit: number"} 1
# HELP threepid_requests_total Requests to the endpoints.
# TYPE threepid_requests_total counter
threepid_requests_total{endpoint="/account/3pid/msisdn/requestToken",status="200"} 1
threepid_requests_total{endpoint="/account/3pid/msisdn/requestToken",status="429"} 1
# HELP threepid_sms_segments_total Segments of the accepted SMS, which is what providers bill.
# TYPE threepid_sms_segments_total counter
threepid_sms_segments_total{country="GB",provider="twilio"} 2
# HELP threepid_sms_total SMS that were passed to a provider, by outcome.
# TYPE threepid_sms_total counter
threepid_sms_total{country="GB",outcome="accepted",provider="twilio"} 1
threepid_sms_total{country="other",outcome="failed",provider="twilio"} 1
# HELP threepid_store_failures_total Units of work that the store failed.
# TYPE threepid_store_failures_total counter
threepid_store_failures_total{op="update"} 1
# HELP threepid_store_retries_total How often units of work were run again, because of conflicts or lost connections.
# TYPE threepid_store_retries_total counter
threepid_store_retries_total{op="update"} 2
# HELP threepid_swept_rows_total Expired rows that were deleted.
# TYPE threepid_swept_rows_total counter
threepid_swept_rows_total 7
# HELP threepid_validations_total Numbers that were validated.
# TYPE threepid_validations_total counter
threepid_validations_total{country="GB",purpose="add"} 1
`
	var names []string
	for line := range strings.Lines(want) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names = append(names, strings.Fields(name)[0])
		}
	}
	if err := testutil.CollectAndCompare(m, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	for _, name := range []string{
		"threepid_sms_duration_seconds", "threepid_time_to_validate_seconds", "threepid_request_duration_seconds", "threepid_store_unit_duration_seconds", "threepid_store_batch_units",
	} {
		if n := testutil.CollectAndCount(m, name); n != 1 {
			t.Errorf("%s has %d series, want 1", name, n)
		}
	}
	problems, err := testutil.CollectAndLint(m)
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// TestSeriesAreBounded reports many values of every label.
func TestSeriesAreBounded(t *testing.T) {
	t.Parallel()
	m := prometheus.New()
	for i := range 2000 {
		s := fmt.Sprint("value", i)
		m.Observe(t.Context(), observe.Request{Endpoint: s, Status: i})
		m.Observe(t.Context(), observe.Refusal{Reason: s})
		m.Observe(t.Context(), observe.SMS{Provider: s, Country: s, Outcome: observe.Outcome(s)})
		m.Observe(t.Context(), observe.Receipt{Provider: s, Status: s})
		m.Observe(t.Context(), observe.Validation{Country: s, Purpose: s})
		m.Observe(t.Context(), observe.Number{Change: s})
		m.Observe(t.Context(), observe.Unit{Op: s, Failed: true, Batch: 1})
		m.Observe(t.Context(), observe.Block{Kind: s})
	}
	const most = 51*13 + 10 // 13 metrics whose labels have the same number here, and those without
	if n := testutil.CollectAndCount(m); n > most {
		t.Errorf("%d series", n)
	}
}

// TestScrapeDuringAStorm gathers while events arrive.
func TestScrapeDuringAStorm(t *testing.T) {
	t.Parallel()
	m := prometheus.New()
	registry := client.NewRegistry()
	registry.MustRegister(m)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				m.Observe(t.Context(), observe.Block{Kind: "range", Subject: fmt.Sprint(i), Until: time.Now().Add(time.Minute)})
				m.Observe(t.Context(), observe.SMS{Provider: "p", Country: "GB", Outcome: observe.Accepted})
			}
		})
	}
	for range 20 {
		if _, err := registry.Gather(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func ExampleNew() {
	registry := client.NewRegistry()
	metrics := prometheus.New()
	registry.MustRegister(metrics)
	_ = metrics // set it as threepid.Options.Observer
}
