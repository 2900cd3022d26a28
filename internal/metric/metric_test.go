package metric_test

import (
	"fmt"
	"testing"

	"example.com/threepid/internal/metric"
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
