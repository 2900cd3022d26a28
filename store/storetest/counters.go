package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/threepid/store"
)

// RunCounters runs the checks of a [store.Counters] as parallel subtests of t. open returns a new,
// empty one, and closes it in a Cleanup if necessary.
func RunCounters(t *testing.T, open func(testing.TB) store.Counters) {
	t.Helper()
	for _, c := range countersChecks() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), checkTimeout)
			defer cancel()
			if err := c.run(ctx, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// countersCheck is one requirement of a store.Counters.
type countersCheck struct {
	name string
	run  func(context.Context, store.Counters) error
}

func countersChecks() []countersCheck {
	return []countersCheck{
		{"SumsOfOtherNodes", checkSums},
		{"CountsAreReplaced", checkCountsAreReplaced},
		{"ManyCounts", checkManyCounts},
		{"VerdictsOfHigherVersionsWin", checkVerdicts},
		{"VerdictsAtOnce", checkVerdictsAtOnce},
		{"CountsExpire", checkCountsExpire},
	}
}

func countOf(subject string, at int64, node string, sent, validated int64) store.Count {
	return store.Count{Subject: subject, At: at, Node: node, Sent: sent, Validated: validated, ExpiresAt: at + 1000}
}

// expectSums compares sums, in any order.
func expectSums(ctx context.Context, c store.Counters, subjects []string, since int64, except string, want ...store.Count) error {
	got, err := c.SumCounts(ctx, subjects, since, except)
	if err != nil {
		return err
	}
	order := func(a, b store.Count) int { return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.At, b.At)) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		return fmt.Errorf("SumCounts(%q, %d, %q) = %+v, want %+v", subjects, since, except, got, want)
	}
	return nil
}

func checkSums(ctx context.Context, c store.Counters) error {
	err := c.PutCounts(ctx, []store.Count{
		countOf("country GB", 100, "a", 1, 0), countOf("country GB", 100, "b", 2, 1), countOf("country GB", 100, "c", 4, 2),
		countOf("country GB", 200, "b", 8, 0), countOf("country gb", 200, "b", 16, 0), countOf("country FR", 200, "c", 32, 5),
	})
	if err != nil {
		return err
	}
	sum := func(subject string, at, sent, validated int64) store.Count {
		return store.Count{Subject: subject, At: at, Sent: sent, Validated: validated}
	}
	return errors.Join(
		expectSums(ctx, c, []string{"country GB"}, 0, "a", sum("country GB", 100, 6, 3), sum("country GB", 200, 8, 0)),
		expectSums(ctx, c, []string{"country GB"}, 0, "none", sum("country GB", 100, 7, 3), sum("country GB", 200, 8, 0)),
		expectSums(ctx, c, []string{"country GB"}, 101, "b"),
		expectSums(ctx, c, []string{"country FR", "country GB", "country XX"}, 200, "a", sum("country FR", 200, 32, 5), sum("country GB", 200, 8, 0)),
		expectSums(ctx, c, nil, 0, "a"),
	)
}

func checkCountsAreReplaced(ctx context.Context, c store.Counters) error {
	for _, n := range []int64{3, 5, 4} {
		if err := c.PutCounts(ctx, []store.Count{countOf("s", 1, "a", n, n-1)}); err != nil {
			return err
		}
	}
	if err := c.PutCounts(ctx, nil); err != nil {
		return fmt.Errorf("PutCounts of nothing: %w", err)
	}
	return expectSums(ctx, c, []string{"s"}, 0, "b", store.Count{Subject: "s", At: 1, Sent: 4, Validated: 3})
}

func checkManyCounts(ctx context.Context, c store.Counters) error {
	const subjects, slots = 400, 3
	var counts []store.Count
	var names []string
	for i := range subjects {
		names = append(names, fmt.Sprint("subject ", i))
		for at := range int64(slots) {
			counts = append(counts, countOf(names[i], at, "a", 1, 0))
		}
	}
	for range 2 {
		if err := c.PutCounts(ctx, counts); err != nil {
			return err
		}
	}
	got, err := c.SumCounts(ctx, names, 0, "b")
	if err == nil && len(got) != subjects*slots {
		err = fmt.Errorf("%d sums of %d", len(got), subjects*slots)
	}
	return err
}

func checkVerdicts(ctx context.Context, c store.Counters) error {
	put := func(version int64, state string) error {
		return c.PutVerdicts(ctx, []store.Verdict{{Subject: "s", Version: version, State: state, ExpiresAt: 1000}, {Subject: "other", Version: 1, State: "other", ExpiresAt: 1000}})
	}
	if err := errors.Join(put(5, "first"), put(7, "higher"), put(6, "lower"), put(7, "the same")); err != nil {
		return err
	}
	for since, want := range map[int64][]store.Verdict{
		0: {{Subject: "other", Version: 1, State: "other", ExpiresAt: 1000}, {Subject: "s", Version: 7, State: "higher", ExpiresAt: 1000}},
		7: {{Subject: "s", Version: 7, State: "higher", ExpiresAt: 1000}},
		8: nil,
	} {
		got, err := c.Verdicts(ctx, since)
		if err != nil {
			return err
		}
		slices.SortFunc(got, func(a, b store.Verdict) int { return cmp.Compare(a.Subject, b.Subject) })
		if !slices.Equal(got, want) {
			return fmt.Errorf("Verdicts(%d) = %+v, want %+v", since, got, want)
		}
	}
	return nil
}

// checkVerdictsAtOnce lets many nodes put a verdict on one subject concurrently.
func checkVerdictsAtOnce(ctx context.Context, c store.Counters) error {
	const nodes = 16
	errs := make([]error, nodes)
	var wg sync.WaitGroup
	for i := range nodes {
		wg.Go(func() {
			errs[i] = c.PutVerdicts(ctx, []store.Verdict{{Subject: "s", Version: int64(i + 1), State: fmt.Sprint(i), ExpiresAt: 1000}})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	got, err := c.Verdicts(ctx, 0)
	if err == nil && (len(got) != 1 || got[0].Version != nodes) {
		err = fmt.Errorf("got Verdicts = %+v, want version %d alone", got, nodes)
	}
	return err
}

func checkCountsExpire(ctx context.Context, c store.Counters) error {
	err := errors.Join(
		c.PutCounts(ctx, []store.Count{countOf("s", 1000, "a", 1, 0), countOf("s", 2000, "a", 2, 0)}),
		c.PutVerdicts(ctx, []store.Verdict{{Subject: "old", Version: 1, ExpiresAt: 2000}, {Subject: "new", Version: 1, ExpiresAt: 2001}}),
		c.DeleteExpiredCounts(ctx, time.UnixMilli(2000)),
	)
	if err != nil {
		return err
	}
	got, err := c.Verdicts(ctx, 0)
	if err == nil && (len(got) != 1 || got[0].Subject != "new") {
		err = fmt.Errorf("after the deletion Verdicts = %+v", got)
	}
	return errors.Join(err, expectSums(ctx, c, []string{"s"}, 0, "b", store.Count{Subject: "s", At: 2000, Sent: 2}))
}
