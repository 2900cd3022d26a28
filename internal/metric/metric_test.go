package metric_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"example.com/threepid/internal/metric"
	"example.com/threepid/observe"
)

func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	var l metric.Labels
	values := map[string]bool{}
	for i := range 1000 {
		values[l.Bound("provider", fmt.Sprint(i))] = true
	}
	if len(values) != 51 || !values[metric.Other] {
		t.Errorf("%d values", len(values))
	}
	if got := l.Bound("provider", "7"); got != "7" {
		t.Errorf("a value that was kept became %q", got)
	}
	if got := l.Bound("reason", "999"); got != "999" {
		t.Errorf("another label has %q", got)
	}
}

func TestCountry(t *testing.T) {
	t.Parallel()
	for country, want := range map[string]string{"GB": "GB", "001": "001", "": "other", "gb": "other", "GBR": "other", "G1": "other", "ÄÖ": "other"} {
		if got := metric.Country(country); got != want {
			t.Errorf("%q is %q, want %q", country, got, want)
		}
	}
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	b, now := metric.NewBlocks(), time.Now()
	for i, e := range []observe.Block{
		{Kind: "range", Subject: "+44740012****", Until: now.Add(time.Hour)},
		{Kind: "range", Subject: "+44740013****", Until: now.Add(time.Hour)},
		{Kind: "range", Subject: "+44740013****", Until: now.Add(2 * time.Hour)},
		{Kind: "country", Subject: "FR", Until: now.Add(time.Minute)},
		{Kind: "network", Subject: "203.0.113.0/24", Until: now.Add(time.Hour), DryRun: true},
		{Kind: "planet", Subject: "Mars", Until: now.Add(time.Hour)},
	} {
		b.Add(e, now.Add(time.Duration(i)))
	}
	expect := func(at time.Time, ranges, countries int) {
		t.Helper()
		want := map[string]int{"range": ranges, "country": countries, "network": 0}
		if got := b.Count(at); !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	expect(now, 2, 1)
	expect(now.Add(time.Minute), 2, 0)
	b.Remove(observe.Unblock{Kind: "number", Subject: "+44740012****"})
	expect(now, 1, 0)
	expect(now.Add(time.Hour), 1, 0) // the second block of the range lasts longer
	expect(now.Add(2*time.Hour), 0, 0)
}
