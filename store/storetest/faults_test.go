package storetest_test

import (
	"errors"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/storetest"
)

func never(string) error { return nil }

func TestWrappersPassEverything(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) store.Store {
		return storetest.Counting(storetest.Failing(storetest.FailingAfter(memstore.New(), never), never))
	})
}

func update(t *testing.T, s store.Store, change func(*store.Rows) error) error {
	t.Helper()
	return s.Update(t.Context(), store.Names{Session: store.SessionRef{Key: store.Key{1}}}, change)
}

func fill(rows *store.Rows) error {
	rows.Session = store.Session{Key: store.Key{1}, SID: "one", ExpiresAt: 1}
	return nil
}

func view(t *testing.T, s store.Store) (found bool, err error) {
	t.Helper()
	rows, err := s.View(t.Context(), store.Names{Session: store.SessionRef{SID: "one"}})
	return rows.Session.SID != "", err
}

func TestFailing(t *testing.T) {
	t.Parallel()
	lost := errors.New("connection lost")
	var ops []string
	inner := memstore.New()
	s := storetest.Failing(inner, func(op string) error { ops = append(ops, op); return lost })

	if err := update(t, s, fill); !errors.Is(err, lost) {
		t.Errorf("Update: %v", err)
	}
	if _, err := view(t, s); !errors.Is(err, lost) {
		t.Errorf("View: %v", err)
	}
	if _, err := s.DeleteExpired(t.Context(), time.UnixMilli(1), 1); !errors.Is(err, lost) {
		t.Errorf("DeleteExpired: %v", err)
	}
	if found, err := view(t, inner); found || err != nil {
		t.Errorf("the inner store was written to, or failed: %v", err)
	}
	if len(ops) != 3 || ops[0] != storetest.OpUpdate || ops[1] != storetest.OpView || ops[2] != storetest.OpDelete {
		t.Errorf("fail was asked about %q", ops)
	}
}

func TestFailingAfter(t *testing.T) {
	t.Parallel()
	lost, own := errors.New("connection lost"), errors.New("the unit's own")
	inner := memstore.New()
	s := storetest.FailingAfter(inner, func(string) error { return lost })

	if err := update(t, s, func(*store.Rows) error { return own }); !errors.Is(err, own) {
		t.Errorf("Update with an error of its own: %v", err)
	}
	if err := update(t, s, fill); !errors.Is(err, lost) {
		t.Errorf("Update: %v", err)
	}
	if found, err := view(t, inner); !found {
		t.Errorf("the commit did not happen: %v", err)
	}
}

func TestCounting(t *testing.T) {
	t.Parallel()
	s := storetest.Counting(memstore.New())
	for range 2 {
		_ = update(t, s, fill)
	}
	for range 3 {
		_, _ = view(t, s)
	}
	if _, err := s.DeleteExpired(t.Context(), time.UnixMilli(1), 1); err != nil {
		t.Fatal(err)
	}
	if s.Updates() != 2 || s.Views() != 3 || s.Deletes() != 1 {
		t.Errorf("counted %d updates, %d views, %d deletions", s.Updates(), s.Views(), s.Deletes())
	}
}
