package main

import (
	"fmt"
	"testing"
	"time"

	"example.com/threepid"
)

// TestSiegeDoesNotLockOutTheOwner lets clients request codes for a number and guess every hour for 60
// days. Its owner, who tries every six hours, can still validate it.
func TestSiegeDoesNotLockOutTheOwner(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		clients int
		row     int // maximum number of successive refusals of the owner
		longest time.Duration
	}{
		{1, 1, ownerPause}, {10, 3, 24 * time.Hour},
	} {
		for _, from := range []time.Duration{0, 45 * day} {
			for _, moving := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d clients, owner from %v, moving %v", row.clients, from, moving), func(t *testing.T) {
					t.Parallel()
					s, err := playSiege(siege{clients: row.clients, ownerFrom: from, moving: moving}, func(*threepid.Options) {})
					if err != nil {
						t.Fatal(err)
					}
					sms, codes := maxWithin(s.sent, month), maxWithin(s.compared, month)
					t.Logf("refused %d of %d, %d in a row, for %v; within 30 days %d SMS, %d codes; a day %d, %d", s.refused, s.tries, s.maxRow, s.longest, sms, codes,
						maxWithin(s.sent, day), maxWithin(s.compared, day))
					if s.maxRow > row.row || s.longest > row.longest {
						t.Errorf("the owner was refused %d of %d times, %d in a row, for up to %v", s.refused, s.tries, s.maxRow, s.longest)
					}
					if s.tries == 0 || len(s.compared) == 0 {
						t.Error("nobody tried")
					}
				})
			}
		}
	}
}
