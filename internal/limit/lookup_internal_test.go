package limit

import (
	"fmt"
	"testing"
	"time"

	"example.com/threepid/limits"
)

// TestLookUpsForgetOldClients makes look-ups for many clients that come once. Memory stays bounded,
// and a client that comes repeatedly is not forgotten.
func TestLookUpsForgetOldClients(t *testing.T) {
	t.Parallel()
	list := []limits.Limit{{Burst: 1, Every: time.Hour}}
	var l LookUps
	if wait := l.Take(list, "regular", 0).Wait; wait != 0 {
		t.Fatalf("the first look-up waits %d ms", wait)
	}
	for i := range 3 * lookUpsHalf {
		l.Take(list, fmt.Sprint(i), 0)
		if i%(lookUpsHalf/2) == 0 && l.Take(list, "regular", 0).Wait == 0 {
			t.Fatalf("after %d others the client is forgotten", i)
		}
	}
	if n := len(l.young) + len(l.old); n > 2*lookUpsHalf {
		t.Errorf("%d clients are remembered", n)
	}
}
