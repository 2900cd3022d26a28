package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// series are the results of one server in all rounds.
type series []result

func (s series) perSecond() float64 {
	values := make([]float64, len(s))
	for i := range s {
		values[i] = s[i].perSecond
	}
	return median(values)
}

func (s series) p50() time.Duration { return s.of(func(r result) time.Duration { return r.p50 }) }
func (s series) p99() time.Duration { return s.of(func(r result) time.Duration { return r.p99 }) }
func (s series) max() time.Duration { return s.of(func(r result) time.Duration { return r.max }) }

func (s series) of(field func(result) time.Duration) time.Duration {
	values := make([]time.Duration, len(s))
	for i := range s {
		values[i] = field(s[i])
	}
	return median(values)
}

// compare asks fresh questions of the same handler over each store, in turn, so
// that whatever else the machine does is everyone's trouble alike. Each round
// has new databases: none of them grows out of proportion.
func compare(ctx context.Context, cfg config, out io.Writer) error {
	if err := printDisk(ctx, cfg.dir, out); err != nil {
		return err
	}
	kinds := []string{ours, defaults, byHand}
	found := map[string]map[int]series{}
	for round := range cfg.rounds {
		for i, kind := range kinds {
			db := filepath.Join(cfg.dir, fmt.Sprintf("%d-%d.db", i, round))
			s, err := startSelf(ctx, kind, db)
			if err != nil {
				return err
			}
			if found[kind] == nil {
				found[kind] = map[int]series{}
			}
			if err := errors.Join(driveAll(ctx, s, cfg, found[kind]), s.stop()); err != nil {
				return err
			}
		}
	}
	return printComparison(out, cfg, kinds, found)
}

// driveAll adds a result for each number of callers.
func driveAll(ctx context.Context, s *server, cfg config, found map[int]series) error {
	if _, err := drive(ctx, s.addr, fresh(), 1, min(warmUp, cfg.duration)); err != nil {
		return err
	}
	for _, callers := range cfg.callers {
		r, err := drive(ctx, s.addr, fresh(), callers, cfg.duration)
		if err != nil {
			return err
		}
		found[callers] = append(found[callers], r)
	}
	return nil
}

func printComparison(out io.Writer, cfg config, kinds []string, found map[string]map[int]series) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(table, "fresh\tcallers\trequests/s\tp50\tp99\tmax\t%s is\t\n", ours)
	for _, callers := range cfg.callers {
		for _, kind := range kinds {
			s := found[kind][callers]
			ratio := found[ours][callers].perSecond() / s.perSecond()
			_, _ = fmt.Fprintf(table, "%s\t%d\t%.0f\t%v\t%v\t%v\t%.2f times\t\n",
				kind, callers, s.perSecond(), short(s.p50()), short(s.p99()), short(s.max()), ratio)
		}
	}
	_, _ = fmt.Fprintf(table, "medians of %d rounds\t\t\t\t\t\t\t\n", cfg.rounds)
	return table.Flush()
}
