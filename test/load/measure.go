package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

const warmUp = 500 * time.Millisecond

// measure measures clusters of the example, one for each setting of the limits, alternately, so
// that other load on the machine affects all of them. It prints the medians of all rounds.
func measure(ctx context.Context, cfg config, out io.Writer) (err error) {
	if err := printDisk(ctx, cfg.dir, out); err != nil {
		return err
	}
	found := map[string][]result{}
	key := func(limits, work string, callers int) string { return fmt.Sprint(limits, " ", work, " ", callers) }
	for range cfg.rounds {
		for _, limits := range cfg.limits {
			if err := measureOnce(ctx, cfg, limits, out, func(name string, callers int, r result) {
				k := key(limits, name, callers)
				found[k] = append(found[k], r)
			}); err != nil {
				return err
			}
		}
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "work\tlimits\tcallers\tper second\tp50\tp99\tmax\tratio\t")
	for _, name := range cfg.works {
		for _, callers := range cfg.callers {
			base := perSecond(found[key(cfg.limits[len(cfg.limits)-1], name, callers)])
			for _, limits := range cfg.limits {
				s := found[key(limits, name, callers)]
				_, _ = fmt.Fprintf(table, "%s\t%s\t%d\t%.0f\t%v\t%v\t%v\t%.2f\t\n", name, limits, callers, perSecond(s),
					of(s, func(r result) time.Duration { return r.p50 }), of(s, func(r result) time.Duration { return r.p99 }),
					of(s, func(r result) time.Duration { return r.max }), perSecond(s)/base)
			}
		}
	}
	return table.Flush()
}

// measureOnce starts a cluster and measures each kind of work on it.
func measureOnce(ctx context.Context, cfg config, limits string, out io.Writer, found func(string, int, result)) (err error) {
	c, err := startCluster(ctx, cfg, limits)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	for _, name := range cfg.works {
		if _, err := drive(ctx, c.addrs(), newWork(name, c.provider), cfg.callers[0], min(warmUp, cfg.duration)); err != nil {
			return err
		}
		for _, callers := range cfg.callers {
			r, err := drive(ctx, c.addrs(), newWork(name, c.provider), callers, cfg.duration)
			if err != nil {
				return err
			}
			found(name, callers, r)
		}
	}
	if memory := c.nodes[0].memory(); memory != "" {
		_, err = fmt.Fprintf(out, "resident memory of a node, limits %s: %s\n", limits, memory)
	}
	return err
}

// perSecond returns the median rate of several rounds.
func perSecond(rounds []result) float64 {
	values := make([]float64, len(rounds))
	for i := range rounds {
		values[i] = rounds[i].perSecond
	}
	return median(values)
}

// of returns the median of a time over several rounds.
func of(rounds []result, field func(result) time.Duration) time.Duration {
	values := make([]time.Duration, len(rounds))
	for i := range rounds {
		values[i] = field(rounds[i])
	}
	return short(median(values))
}
