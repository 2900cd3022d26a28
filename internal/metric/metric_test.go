package metric_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"example.com/threepid/internal/metric"
	"example.com/threepid/limits"
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
	var b metric.Blocks
	if got := b.Count(t.Context()); got != nil {
		t.Errorf("%v without a function", got)
	}
	blocks, failure := []limits.Block{
		{Range: "44740012", Country: "GB"}, {Range: "44740013", Country: "GB"}, {Country: "FR"},
		{Network: "203.0.113.0/24", DryRun: true}, {Range: "44740014", Country: "GB", DryRun: true},
	}, error(nil)
	b.Read(func(ctx context.Context) ([]limits.Block, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("the function may take for ever")
		}
		return blocks, failure
	})
	if got, want := b.Count(t.Context()), (map[string]int{"range": 2, "country": 1, "network": 0}); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	failure = errors.New("no store")
	if got := b.Count(t.Context()); got != nil {
		t.Errorf("%v, although it is not known", got)
	}
}
