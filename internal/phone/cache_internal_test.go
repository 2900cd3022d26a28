package phone

import (
	"fmt"
	"testing"
)

// TestCache compares a Cache with Parse, and fills it.
func TestCache(t *testing.T) {
	t.Parallel()
	var cache Cache
	for range 2 {
		for _, row := range []struct{ phoneNumber, country string }{
			{"07700900001", "GB"}, {"07700900001", "FR"}, {"+447700900001", "FR"}, {"0770", "GB"}, {"07700900001", ""},
		} {
			want, wantErr := Parse(row.phoneNumber, row.country)
			got, err := cache.Parse(row.phoneNumber, row.country)
			if got.MSISDN != want.MSISDN || got.International != want.International || (err == nil) != (wantErr == nil) {
				t.Errorf("%v: %q %q %v, want %q %q %v", row, got.MSISDN, got.International, err, want.MSISDN, want.International, wantErr)
			}
		}
	}
	if _, ok := cache.find(spelling{"07700900001", "GB"}); !ok {
		t.Error("it does not remember")
	}
	if n, ok := cache.find(spelling{"+447700900001", ""}); !ok || n.MSISDN != "447700900001" {
		t.Error("it does not remember the E.164 form")
	}
	young := len(cache.young)
	if n, err := cache.Parse("\u202a07700 900001\u202c", "GB"); err != nil || n.MSISDN != "447700900001" {
		t.Errorf("a copied number: %q, %v", n.MSISDN, err)
	}
	if n, err := cache.Parse("\u2068\u00a007700900001\t", "GB"); err != nil || n.MSISDN != "447700900001" || len(cache.young) != young+1 {
		t.Errorf("another copy of the same spelling: %q, %v, %d more remembered", n.MSISDN, err, len(cache.young)-young)
	}
	if _, ok := cache.find(spelling{"0770", "GB"}); ok {
		t.Error("it remembers what is no number")
	}
	for i := range 3 * cacheHalf {
		cache.keep(Number{}, spelling{fmt.Sprint(i), "GB"})
	}
	if n := len(cache.young) + len(cache.old); n > 2*cacheHalf {
		t.Errorf("it remembers %d numbers", n)
	}
}
