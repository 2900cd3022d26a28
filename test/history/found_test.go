package history_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// The checker must find each guarantee that these tests break. Otherwise its silence would prove
// nothing.

// TestFindsBrokenClaims uses a store that lets two nodes claim an attempt.
func TestFindsBrokenClaims(t *testing.T) {
	t.Parallel()
	claims := func(s store.Session) bool { return s.LeaseUntil != 0 && s.Outcome == store.OutcomePending }
	c := newMemoryCluster(t, &brokenStore{bothStores: memstore.New(), breaks: claims, pause: 5 * time.Millisecond}, 0, time.Second)
	c.mix = mix{requestToken: 1}
	c.expectViolation(t, stepSMS, stepClaim)
}

// TestFindsBrokenRedeem uses a store in which a redeem writes back the number's epoch from before a
// release, so that what the release has voided is valid again.
func TestFindsBrokenRedeem(t *testing.T) {
	t.Parallel()
	redeems := func(s store.Session) bool { return s.RedeemedAt != 0 }
	c := newMemoryCluster(t, &brokenStore{bothStores: memstore.New(), breaks: redeems, pause: 30 * time.Millisecond}, 0, time.Second)
	c.mix = mix{requestToken: 20, submitToken: 40, redeem: 20, validated: 10, release: 10}
	c.expectViolation(t, stepValidated, stepRedeem, stepRight)
}

// TestFindsClocksApart uses nodes whose clocks differ by more than a lease, so that each sends
// although the other one is sending.
func TestFindsClocksApart(t *testing.T) {
	t.Parallel()
	c := newMemoryCluster(t, memstore.New(), 0, time.Minute)
	c.mix = mix{requestToken: 1}
	c.expectViolation(t, stepSMS, stepClaim)
}

// expectViolation runs the workload until the checker finds something. The first step beyond the
// longest legal order must be of one of the kinds, because that step violates the guarantee.
func (c *cluster) expectViolation(t *testing.T, kinds ...kind) {
	t.Helper()
	for range 20 {
		c.run(t, 500*time.Millisecond, 4)
		v := c.history.check()
		for _, bad := range v.illegal {
			report := bad.explain()
			t.Logf("number %d of %d:\n%s", bad.number, v.numbers, report)
			expectDrawing(t, report)
			if !slices.ContainsFunc(kinds, func(k kind) bool { return strings.Contains(report, "\n! "+step{kind: k}.name()) }) {
				t.Error("the report is of something else")
			}
			return
		}
	}
	t.Errorf("%d calls and nothing found", len(c.history.calls))
}

// expectDrawing looks for porcupine's page, and removes it.
func expectDrawing(t *testing.T, report string) {
	t.Helper()
	path := regexp.MustCompile(`drawn in (\S+)`).FindStringSubmatch(report)
	if path == nil {
		t.Fatal("the report names no drawing")
	}
	page, err := os.ReadFile(path[1])
	if err != nil || !strings.Contains(string(page), "<html") {
		t.Errorf("drawing: %v, %d bytes", err, len(page))
	}
	if err := os.Remove(path[1]); err != nil {
		t.Error(err)
	}
}
