package gormstore_test

import (
	"context"
	"strings"
	"testing"

	"example.com/threepid/store"
)

// reported calls do with a context that requests a Run, and returns it.
func reported(t *testing.T, do func(ctx context.Context) error) (run store.Run) {
	t.Helper()
	if err := do(store.WithReport(t.Context(), func(r store.Run) { run = r })); err != nil {
		t.Error(err)
	}
	return run
}

func TestUnitsReportTheirBatch(t *testing.T) {
	t.Parallel()
	const callers = 5
	s, _ := openFaulty(t)
	putOne := func(i int) store.Run {
		return reported(t, func(ctx context.Context) error { return put(ctx, s, numbered(i)) })
	}
	if got := putOne(callers); got != (store.Run{Batch: 1}) {
		t.Errorf("a lone unit: %+v", got)
	}
	release := hold(t, s)
	wait := queue(t, s, callers, func(i int) {
		if got := putOne(i); got != (store.Run{Batch: callers}) {
			t.Errorf("unit %d of %d: %+v", i, callers, got)
		}
	})
	release()
	wait()
}

func TestUnitsReportTheirRetries(t *testing.T) {
	t.Parallel()
	s, f := openFaulty(t)
	view := func(ctx context.Context) error {
		_, err := s.View(ctx, store.Names{Session: store.SessionRef{SID: "sid"}})
		return err
	}
	for statement, do := range map[string]func(context.Context) error{
		"INSERT": func(ctx context.Context) error { return put(ctx, s, numbered(1)) },
		"SELECT": view,
	} {
		failures := 3
		f.beforeEach(func(text string) error {
			if strings.HasPrefix(text, statement) && failures > 0 {
				failures--
				return stateError("40001")
			}
			return nil
		})
		if got := reported(t, do); got != (store.Run{Batch: 1, Retries: 3}) {
			t.Errorf("after three conflicts at %s: %+v", statement, got)
		}
	}
}
