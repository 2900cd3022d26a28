package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/threepid/store"
)

// unitChecks are about what one unit of work keeps, sees and returns.
func unitChecks() []storeCheck {
	return []storeCheck{
		{"ErrorKeepsNothing", checkError},
		{"PanicKeepsNothing", checkPanic},
		{"UnitReadsItsOwnWrites", checkOwnWrites},
		{"ViewReturnsTheError", checkViewError},
		{"ViewIsReadOnly", checkReadOnly},
		{"CancelledContext", checkCancelled},
	}
}

// halfDone puts one new session and changes one that is there.
func halfDone(tx store.Tx) error {
	if err := tx.PutSession(sample(2)); err != nil {
		return err
	}
	old, err := tx.SessionByKey(keyOf(1))
	if err != nil {
		return err
	}
	old.SID, old.Attempt = "changed", 99
	return tx.PutSession(old)
}

// expectUndone checks that nothing of halfDone was kept, and that the store
// still takes writes.
func expectUndone(ctx context.Context, s store.Store) error {
	err := errors.Join(expect(ctx, s, sample(1)), expectNoSID(ctx, s, "changed"), expectNone(ctx, s, sample(2)))
	if err != nil {
		return err
	}
	if err := s.Update(ctx, halfDone); err != nil {
		return fmt.Errorf("the same unit without the failure: %w", err)
	}
	return expect(ctx, s, sample(2))
}

func checkError(ctx context.Context, s store.Store) error {
	if err := put(ctx, s, sample(1)); err != nil {
		return err
	}
	err := s.Update(ctx, func(tx store.Tx) error { return errors.Join(halfDone(tx), errOwn) })
	if !errors.Is(err, errOwn) {
		return fmt.Errorf("Update returned %w, want the error of fn", orNone(err))
	}
	return expectUndone(ctx, s)
}

func checkPanic(ctx context.Context, s store.Store) error {
	if err := put(ctx, s, sample(1)); err != nil {
		return err
	}
	value, err := recovered(func() error {
		return s.Update(ctx, func(tx store.Tx) error {
			if err := halfDone(tx); err != nil {
				return err
			}
			panic(errOwn)
		})
	})
	if value != any(errOwn) { // the very value has to come out
		return fmt.Errorf("Update with a panic in fn: got panic %v and error %w, want fn's panic", value, orNone(err))
	}
	value, err = recovered(func() error { return s.View(ctx, func(store.Tx) error { panic(errOwn) }) })
	if value != any(errOwn) { // the very value has to come out
		return fmt.Errorf("View with a panic in fn: got panic %v and error %w, want fn's panic", value, orNone(err))
	}
	return expectUndone(ctx, s)
}

func recovered(fn func() error) (value any, err error) {
	defer func() { value = recover() }()
	return nil, fn()
}

func checkOwnWrites(ctx context.Context, s store.Store) error {
	if err := put(ctx, s, sample(1)); err != nil {
		return err
	}
	return s.Update(ctx, func(tx store.Tx) error {
		if err := halfDone(tx); err != nil {
			return err
		}
		changed := sample(1)
		changed.SID, changed.Attempt = "changed", 99
		_, err := tx.SessionBySID(sample(1).SID)
		return errors.Join(
			expectIn(tx, changed),
			expectIn(tx, sample(2)),
			expectNotFound("SessionBySID of the sid that this unit replaced", err),
		)
	})
}

func checkViewError(ctx context.Context, s store.Store) error {
	if err := s.View(ctx, func(store.Tx) error { return errOwn }); !errors.Is(err, errOwn) {
		return fmt.Errorf("View returned %w, want the error of fn", orNone(err))
	}
	return nil
}

func checkReadOnly(ctx context.Context, s store.Store) error {
	if err := put(ctx, s, sample(1)); err != nil {
		return err
	}
	var added, changed error
	err := s.View(ctx, func(tx store.Tx) error {
		added = tx.PutSession(sample(2))
		old, err := tx.SessionByKey(keyOf(1))
		old.Attempt = 99
		changed = tx.PutSession(old)
		return err
	})
	if err != nil {
		return fmt.Errorf("a View that disregards the failure to put: %w", err)
	}
	if added == nil || changed == nil {
		return errors.New("PutSession inside View returned nil")
	}
	return errors.Join(expect(ctx, s, sample(1)), expectNone(ctx, s, sample(2)))
}

func checkCancelled(ctx context.Context, s store.Store) error {
	expired := sample(1)
	if err := put(ctx, s, expired); err != nil {
		return err
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	ran := false
	err := s.Update(cancelled, func(tx store.Tx) error {
		ran = true
		return tx.PutSession(sample(2))
	})
	if !errors.Is(err, context.Canceled) || ran {
		return fmt.Errorf("Update with a cancelled context: got %w (fn ran: %v), want context.Canceled", orNone(err), ran)
	}
	_, err = s.DeleteExpired(cancelled, time.UnixMilli(expired.ExpiresAt), 1)
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("DeleteExpired with a cancelled context: got %w, want context.Canceled", orNone(err))
	}
	return errors.Join(expect(ctx, s, expired), expectNone(ctx, s, sample(2)))
}
