package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"text/tabwriter"
	"time"
)

const warmUp = 500 * time.Millisecond

// measure drives the example, or the server at -url.
func measure(ctx context.Context, cfg config, out io.Writer) (err error) {
	if err := printDisk(ctx, cfg.dir, out); err != nil {
		return err
	}
	var child *server
	var addr string
	if cfg.url != "" {
		u, err := url.Parse(cfg.url)
		if err != nil {
			return err
		}
		addr = u.Host
	} else {
		db := cfg.db
		if db == "" {
			db = filepath.Join(cfg.dir, "threepid.db")
		}
		if child, err = startExample(ctx, cfg.dir, db); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, child.stop()) }()
		addr = child.addr
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "\tcallers\trequests/s\tp50\tp99\tmax\t")
	for _, q := range questions() {
		if _, err := drive(ctx, addr, q, cfg.callers[len(cfg.callers)-1], min(warmUp, cfg.duration)); err != nil {
			return err
		}
		for _, callers := range cfg.callers {
			r, err := drive(ctx, addr, q, callers, cfg.duration)
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(table, "%s\t%d\t%.0f\t%v\t%v\t%v\t\n", q.name, callers, r.perSecond, short(r.p50), short(r.p99), short(r.max))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if child != nil {
		_, _ = fmt.Fprintf(out, "resident memory of the example: %s\n", child.memory())
	}
	return nil
}

func short(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
