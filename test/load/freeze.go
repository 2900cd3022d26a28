package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"
)

// freezeGrace is how long the other nodes may be delayed by a node that was stopped in the middle
// of its work.
const freezeGrace = 300 * time.Millisecond

// freeze measures complete verifications on all nodes, stops the first node with SIGSTOP in the
// middle of its work, and measures the others again after freezeGrace. It repeats this for each
// round.
func freeze(ctx context.Context, cfg config, out io.Writer) (err error) {
	c, err := startCluster(ctx, cfg, cfg.limits[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "others before/s\tfrozen/s\tratio\tlongest pause\tthawed/s\t")
	var ratios []float64
	for range cfg.rounds {
		f, err := freezeOnce(ctx, c, cfg)
		if err != nil {
			return err
		}
		ratios = append(ratios, f.frozen/f.before)
		_, _ = fmt.Fprintf(table, "%.0f\t%.0f\t%.2f\t%v\t%.0f\t\n", f.before, f.frozen, f.frozen/f.before, short(f.pause), f.after)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "median ratio %.2f\n", median(ratios))
	return err
}

// frozen is the result of one round for the nodes that were not stopped: verifications per second
// before, during and after the stop, and the longest time after it in which none of them completed
// any.
type frozen struct {
	before, frozen, after float64
	pause                 time.Duration
}

func freezeOnce(ctx context.Context, c *cluster, cfg config) (f frozen, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var done atomic.Int64 // on the other nodes
	var last, longest atomic.Int64
	callers := cfg.callers[len(cfg.callers)-1]
	errs := make([]error, callers)
	w := newWork("verification", c.provider)
	var wg sync.WaitGroup
	for i := range callers {
		node := i % len(c.nodes)
		wg.Go(func() {
			counted := work{w.name, func(cl *client, caller, n int) error {
				err := w.do(cl, caller, n)
				if err == nil && node > 0 {
					done.Add(1)
					now := time.Now().UnixNano()
					longest.Store(max(longest.Load(), now-last.Swap(now)))
				}
				return err
			}}
			_, err := call(ctx, c.nodes[node].addr, counted, i)
			if node > 0 { // requests of the stopped node may time out when it continues
				errs[i] = err
			}
		})
	}
	rate := func() float64 {
		before, begin := done.Load(), time.Now()
		time.Sleep(cfg.duration)
		return float64(done.Load()-before) / time.Since(begin).Seconds()
	}
	time.Sleep(min(warmUp, cfg.duration))
	f.before = rate()
	process := c.nodes[0].cmd.Process
	last.Store(time.Now().UnixNano())
	longest.Store(0)
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return f, err
	}
	time.Sleep(freezeGrace)
	f.frozen = rate()
	f.pause = time.Duration(max(longest.Load(), time.Now().UnixNano()-last.Load()))
	if err := process.Signal(syscall.SIGCONT); err != nil {
		return f, err
	}
	time.Sleep(freezeGrace)
	f.after = rate()
	cancel()
	wg.Wait()
	return f, errors.Join(errs...)
}
