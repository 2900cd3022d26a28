package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/threepid/store"
)

// unitChecks check what a unit of work stores and returns.
func unitChecks() []storeCheck {
	return []storeCheck{
		{"ErrorKeepsNothing", checkError},
		{"PanicKeepsNothing", checkPanic},
		{"OtherNames", checkOtherNames},
		{"CancelledContext", checkCancelled},
	}
}

// halfDone changes a session and a record.
func halfDone(rows *store.Rows) {
	rows.Session.SID, rows.Session.Attempt = "changed", 99
	rows.Records[0] = record(recordKeys(1)[0], "changed")
}

// expectUndone checks that nothing of halfDone was stored, and that the store still accepts writes.
func expectUndone(ctx context.Context, s store.Store) error {
	key := recordKeys(1)[0]
	err := errors.Join(expect(ctx, s, sample(1)), expectNoSID(ctx, s, "changed"), expectRecords(ctx, s, store.Record{Key: key}))
	if err != nil {
		return err
	}
	if err := s.Update(ctx, byKey(keyOf(1), key), func(rows *store.Rows) error { halfDone(rows); return nil }); err != nil {
		return fmt.Errorf("the same unit without the failure: %w", err)
	}
	return expectRecords(ctx, s, record(key, "changed"))
}

func checkError(ctx context.Context, s store.Store) error {
	if err := put(ctx, s, sample(1)); err != nil {
		return err
	}
	runs := 0
	err := s.Update(ctx, byKey(keyOf(1), recordKeys(1)...), func(rows *store.Rows) error {
		runs++
		halfDone(rows)
		return errOwn
	})
	const most = 2 // a store may first try with rows that it remembers
	if !errors.Is(err, errOwn) || runs < 1 || runs > most {
		return fmt.Errorf("Update returned %w after %d calls of change, want the error of change after one or two", orNone(err), runs)
	}
	return expectUndone(ctx, s)
}

func checkPanic(ctx context.Context, s store.Store) error {
	if err := put(ctx, s, sample(1)); err != nil {
		return err
	}
	value, err := recovered(func() error {
		return s.Update(ctx, byKey(keyOf(1), recordKeys(1)...), func(rows *store.Rows) error {
			halfDone(rows)
			panic(errOwn)
		})
	})
	if value != any(errOwn) { // the same value
		return fmt.Errorf("Update with a panic in change: got panic %v and error %w, want the panic of change", value, orNone(err))
	}
	return expectUndone(ctx, s)
}

func recovered(fn func() error) (value any, err error) {
	defer func() { value = recover() }()
	return nil, fn()
}

// checkOtherNames runs a unit that learns from its session which record it needs.
func checkOtherNames(ctx context.Context, s store.Store) error {
	session := sample(1)
	if err := put(ctx, s, session); err != nil {
		return err
	}
	named := store.RecordKey("client", session.Client)
	err := s.Update(ctx, bySID(session.SID), func(rows *store.Rows) error {
		needs := store.RecordKey("client", rows.Session.Client)
		if len(rows.Records) == 0 || rows.Records[0].Key != needs {
			rows.Session.Attempt = 99 // must not be stored
			return fmt.Errorf("wrapped: %w", &store.NamesError{Names: bySID(session.SID, needs)})
		}
		rows.Records[0] = record(needs, "named")
		return nil
	})
	if err != nil {
		return fmt.Errorf("Update of a unit that needs another record: %w", err)
	}
	if err := errors.Join(expect(ctx, s, session), expectRecords(ctx, s, record(named, "named"))); err != nil {
		return err
	}
	runs := 0
	err = s.Update(ctx, bySID(session.SID), func(*store.Rows) error {
		runs++
		return &store.NamesError{Names: bySID(session.SID)}
	})
	if !errors.Is(err, store.ErrNames) || runs != 4 {
		return fmt.Errorf("Update of a unit that always needs other names: %w after %d calls of change, want ErrNames after 4", orNone(err), runs)
	}
	return nil
}

func checkCancelled(ctx context.Context, s store.Store) error {
	expired := sample(1)
	if err := put(ctx, s, expired); err != nil {
		return err
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	ran := false
	err := s.Update(cancelled, byKey(keyOf(2)), func(rows *store.Rows) error {
		ran = true
		rows.Session = sample(2)
		return nil
	})
	if !errors.Is(err, context.Canceled) || ran {
		return fmt.Errorf("Update with a cancelled context: got %w (change was called: %v), want context.Canceled", orNone(err), ran)
	}
	if _, err = s.View(cancelled, byKey(keyOf(1))); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("View with a cancelled context: got %w, want context.Canceled", orNone(err))
	}
	_, err = s.DeleteExpired(cancelled, time.UnixMilli(expired.ExpiresAt), 1)
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("DeleteExpired with a cancelled context: got %w, want context.Canceled", orNone(err))
	}
	return errors.Join(expect(ctx, s, expired), expectNone(ctx, s, sample(2)))
}
