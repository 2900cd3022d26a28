package verify

import (
	"fmt"
	"testing"
	"time"
)

// TestLookUpsForgetOldClients has many clients come once: what is remembered is
// bounded, and a client that keeps coming is not forgotten.
func TestLookUpsForgetOldClients(t *testing.T) {
	t.Parallel()
	limits := []Limit{{Burst: 1, Per: time.Hour}}
	var l lookUps
	if wait := l.take(limits, "regular", 0); wait != 0 {
		t.Fatalf("the first look-up waits %d ms", wait)
	}
	for i := range 3 * lookUpsHalf {
		l.take(limits, fmt.Sprint(i), 0)
		if i%(lookUpsHalf/2) == 0 && l.take(limits, "regular", 0) == 0 {
			t.Fatalf("after %d others the client is forgotten", i)
		}
	}
	if n := len(l.young) + len(l.old); n > 2*lookUpsHalf {
		t.Errorf("%d clients are remembered", n)
	}
}
