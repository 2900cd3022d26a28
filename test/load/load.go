package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// result is the result of a measurement.
type result struct {
	done          int
	perSecond     float64
	p50, p99, max time.Duration
}

// drive lets callers work for a while; caller i uses node i modulo the number of nodes. It fails if
// a response is not the expected one, because a rate of failures means nothing.
func drive(ctx context.Context, addrs []string, w work, callers int, duration time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	took := make([][]time.Duration, callers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range callers {
		wg.Go(func() { took[i], errs[i] = call(ctx, addrs[i%len(addrs)], w, i) })
	}
	wg.Wait()
	elapsed := time.Since(begin)
	for _, err := range errs {
		if err != nil {
			return result{}, fmt.Errorf("%s at %d callers: %w", w.name, callers, err)
		}
	}
	return summary(slices.Concat(took...), elapsed), nil
}

func call(ctx context.Context, addr string, w work, caller int) (took []time.Duration, err error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }()
	for n := 0; ctx.Err() == nil; n++ {
		begin := time.Now()
		if err := w.do(c, caller, n); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

func summary(took []time.Duration, elapsed time.Duration) result {
	slices.Sort(took)
	return result{
		done: len(took), perSecond: float64(len(took)) / elapsed.Seconds(),
		p50: percentile(took, 50), p99: percentile(took, 99), max: percentile(took, 100),
	}
}

// percentile returns the smallest of the sorted values that at least p percent do not exceed, or 0
// if there are none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	const hundred = 100
	return sorted[max(0, (len(sorted)*p+hundred-1)/hundred-1)]
}

// median returns the middle value, or the lower one of two.
func median[T int | float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

func short(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
