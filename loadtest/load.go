package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// question is what the callers of a measurement ask.
type question struct {
	name   string
	path   string
	status int // what every answer must be
	body   func(run int64, caller, n int) []byte
}

const (
	addPath      = "/_api/client/v3/account/3pid/msisdn/requestToken"
	passwordPath = "/_api/client/v3/account/password/msisdn/requestToken"
)

func questions() []question { return []question{fresh(), retry(), noNumber(), noAccount()} }

// fresh is an attempt that the server has not seen: it is claimed, texted and
// recorded. No two have the same client_secret, and numbers repeat after a million.
func fresh() question {
	return question{"fresh", addPath, http.StatusOK, func(run int64, caller, n int) []byte {
		const numbers, apart = 1_000_000, 7919
		number := (caller*apart*apart + n*apart) % numbers
		return body(fmt.Sprintf("s%d.%d.%d", run, caller, n), fmt.Sprintf("07400%06d", number))
	}}
}

// retry is an attempt that was texted before.
func retry() question {
	return question{"retry", addPath, http.StatusOK, func(run int64, caller, _ int) []byte {
		return body(fmt.Sprintf("r%d.%d", run, caller), fmt.Sprintf("07400%06d", caller))
	}}
}

// noNumber is refused for a phone_number that is far too short to be one.
func noNumber() question {
	return question{"no number", addPath, http.StatusBadRequest, func(run int64, caller, n int) []byte {
		return body(fmt.Sprintf("s%d.%d.%d", run, caller, n), "12")
	}}
}

// noAccount is refused for a number that has no account whose password could be
// reset.
func noAccount() question {
	return question{"no account", passwordPath, http.StatusBadRequest, retry().body}
}

func body(clientSecret, number string) []byte {
	return fmt.Appendf(nil, `{"client_secret":"%s","country":"GB","phone_number":"%s","send_attempt":1}`, clientSecret, number)
}

// result is what a measurement found.
type result struct {
	answers       int
	perSecond     float64
	p50, p99, max time.Duration
}

// drive has callers ask for a while, and fails when an answer is not as it
// should be: a figure of failures is no figure.
func drive(ctx context.Context, addr string, q question, callers int, duration time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	run := time.Now().UnixNano()
	took := make([][]time.Duration, callers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	begin := time.Now()
	for i := range callers {
		wg.Go(func() { took[i], errs[i] = call(ctx, addr, q, run, i) })
	}
	wg.Wait()
	elapsed := time.Since(begin)
	for _, err := range errs {
		if err != nil {
			return result{}, fmt.Errorf("%s at %d callers: %w", q.name, callers, err)
		}
	}
	return summary(slices.Concat(took...), elapsed), nil
}

func call(ctx context.Context, addr string, q question, run int64, caller int) (took []time.Duration, err error) {
	c, err := dial(addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.conn.Close() }()
	for n := 0; ctx.Err() == nil; n++ {
		body := q.body(run, caller, n)
		begin := time.Now()
		status, err := c.post(q.path, body)
		if err != nil {
			return nil, err
		}
		if status != q.status {
			return nil, fmt.Errorf("answered %d, not %d", status, q.status)
		}
		took = append(took, time.Since(begin))
	}
	return took, nil
}

func summary(took []time.Duration, elapsed time.Duration) result {
	slices.Sort(took)
	return result{
		answers: len(took), perSecond: float64(len(took)) / elapsed.Seconds(),
		p50: percentile(took, 50), p99: percentile(took, 99), max: percentile(took, 100),
	}
}

// percentile returns the least value that p of a hundred of the sorted values
// do not exceed, 0 if there is none.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	const hundred = 100
	return sorted[max(0, (len(sorted)*p+hundred-1)/hundred-1)]
}

// median returns the middle value, the lower one of two.
func median[T int | float64 | time.Duration](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
