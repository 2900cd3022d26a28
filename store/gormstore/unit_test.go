package gormstore_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

// A clash that running again cannot settle ends in an error that tells nothing
// of the values.
func TestErrorsTellNoValues(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	if err := s.Update(t.Context(), put(session(1))); err != nil {
		t.Fatal(err)
	}
	clash := session(2)
	clash.SID = session(1).SID
	runs := 0
	err := s.Update(t.Context(), func(tx store.Tx) error {
		runs++
		return tx.PutSession(clash)
	})
	if err == nil {
		t.Fatal("two sessions have one sid")
	}
	if runs < 2 {
		t.Errorf("a duplicate was not tried again: %d runs", runs)
	}
	if !strings.HasPrefix(err.Error(), "gormstore: put session: ") {
		t.Errorf("the error does not say what was done: %v", err)
	}
	for _, value := range []string{clash.SID, clash.MSISDN} {
		if strings.Contains(err.Error(), value) {
			t.Errorf("the error tells %s: %v", value, err)
		}
	}
}

func TestUpdateFailsWhenAFailedPutIsDisregarded(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	if err := s.Update(t.Context(), put(session(1))); err != nil {
		t.Fatal(err)
	}
	err := s.Update(t.Context(), func(tx store.Tx) error {
		clash := session(3)
		clash.SID = session(1).SID
		_ = tx.PutSession(session(2))
		_ = tx.PutSession(clash)
		return nil
	})
	if err == nil {
		t.Error("Update kept half of a unit")
	}
	if err := expectSID(t.Context(), s, session(2).SID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the failed unit: got %v, want ErrNotFound", err)
	}
}

// fn's own errors are not the database's, whatever they say.
func TestUpdateDoesNotRunAgainForTheUnitsError(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	own, runs := errors.New("database is locked"), 0
	err := s.Update(t.Context(), func(store.Tx) error { runs++; return own })
	if !errors.Is(err, own) || runs != 1 {
		t.Errorf("got %v after %d runs", err, runs)
	}
}

// A connection that breaks before the commit is no reason to give up: nothing
// was kept, and the next one may hold.
func TestLostConnections(t *testing.T) {
	t.Parallel()
	for _, broken := range []error{
		driver.ErrBadConn, io.ErrUnexpectedEOF, &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")},
		errors.New("invalid connection"), stateError("57P01"), stateError("08006"), errors.New("Error 1053 (08S01): Server shutdown in progress"),
	} {
		for statement, again := range map[string]bool{"BEGIN": true, "INSERT": true, "SELECT": true, "COMMIT": false} {
			t.Run(fmt.Sprintf("%v at %s", broken, statement), func(t *testing.T) {
				t.Parallel()
				s, f := openFaulty(t)
				failures := 3
				f.beforeEach(func(text string) error {
					if strings.HasPrefix(text, statement) && failures > 0 {
						failures--
						return broken
					}
					return nil
				})
				err := s.Update(t.Context(), func(tx store.Tx) error {
					if _, err := tx.SessionBySID("sid"); !errors.Is(err, store.ErrNotFound) {
						return err
					}
					return tx.PutSession(session(1))
				})
				if again && err != nil {
					t.Errorf("Update: %v", err)
				}
				if !again && (err == nil || failures != 2) {
					t.Errorf("Update returned %v and ran %d times: what is kept is not known", err, 3-failures)
				}
				failures = 3
				if err := expectSID(t.Context(), s, session(0).SID); err != nil {
					t.Errorf("View: %v", err)
				}
			})
		}
	}
}

// What databases say of a deadlock or a serialisation failure is that nothing of
// the unit was kept: it is run again, also when COMMIT said so.
func TestConflicts(t *testing.T) {
	t.Parallel()
	for _, conflict := range []error{
		stateError("40001"), stateError("40P01"), errors.New("database is locked"), errors.New("database table is locked"),
		errors.New("Error 1213 (40001): Deadlock found"), errors.New("Error 1205 (HY000): Lock wait timeout exceeded"),
		errors.New("Error 1020 (HY000): Record has changed since last read"),
	} {
		for _, statement := range []string{"BEGIN", "INSERT", "SELECT", "COMMIT"} {
			t.Run(fmt.Sprintf("%v at %s", conflict, statement), func(t *testing.T) {
				t.Parallel()
				s, f := openFaulty(t)
				failures := 3
				f.beforeEach(func(text string) error {
					if strings.HasPrefix(text, statement) && failures > 0 {
						failures--
						return conflict
					}
					return nil
				})
				err := s.Update(t.Context(), func(tx store.Tx) error {
					if _, err := tx.SessionBySID("sid"); !errors.Is(err, store.ErrNotFound) {
						return err
					}
					return tx.PutSession(session(1))
				})
				if err != nil || failures != 0 {
					t.Errorf("Update: %v, with %d conflicts to come", err, failures)
				}
				if err := expectSID(t.Context(), s, session(1).SID); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// stateError is an error as the drivers of PostgreSQL have it.
type stateError string

func (s stateError) Error() string    { return "error " + string(s) }
func (s stateError) SQLState() string { return string(s) }

// A database that stays away is not waited for without end.
func TestLostConnectionsAreTriedABoundedNumberOfTimes(t *testing.T) {
	t.Parallel()
	s, f := openFaulty(t)
	tries := 0
	f.beforeEach(func(text string) error {
		if text == "BEGIN" {
			tries++
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	err := s.Update(t.Context(), put(session(1)))
	if !errors.Is(err, io.ErrUnexpectedEOF) || tries < 3 || tries > 20 {
		t.Errorf("got %v after %d tries", err, tries)
	}
}

// Who waits for the write lock leaves when its context ends.
func TestWaitingUpdateHeedsItsContext(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	start := time.Now()
	err := s.Update(t.Context(), func(store.Tx) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		err := s.Update(ctx, func(store.Tx) error {
			t.Error("two units write at once")
			return nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(start); waited > 2*time.Second { // SQLite itself waits five
		t.Errorf("it waited %v", waited)
	}
}

// A unit that has begun is carried through.
func TestUpdateIsNotCutOffByItsContext(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx store.Tx) error {
		cancel()
		return tx.PutSession(session(1))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := expectSID(t.Context(), s, session(1).SID); err != nil {
		t.Error(err)
	}
}

// More than one statement can name at once.
func TestDeleteExpiredMany(t *testing.T) {
	t.Parallel()
	const total = 1201
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	err := s.Update(t.Context(), func(tx store.Tx) error {
		for i := range total {
			one := session(1)
			one.Key = store.SessionKey("secret", "GB", string(rune('0'+i)))
			one.SID = string(rune('0' + i))
			if err := tx.PutSession(one); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{total - 1, 1, 0} {
		n, err := s.DeleteExpired(t.Context(), time.UnixMilli(1), total-1)
		if err != nil || n != want {
			t.Errorf("got %d, %v; want %d", n, err, want)
		}
	}
	if n, err := s.DeleteExpired(t.Context(), time.UnixMilli(1), 0); n != 0 || err != nil {
		t.Errorf("limit 0: got %d, %v", n, err)
	}
}

// The expiry that counts is the writer's at the time of deletion: here the
// reader sees an old one for ever.
func TestDeleteExpiredTestsTheExpiryAgain(t *testing.T) {
	t.Parallel()
	stale := openHost(t, nil)
	if err := newStore(t, stale, gormstore.Options{}).Update(t.Context(), put(session(1))); err != nil {
		t.Fatal(err)
	}
	renewed := session(1)
	renewed.ExpiresAt += 10
	db := openHost(t, nil)
	if err := newStore(t, db, gormstore.Options{}).Update(t.Context(), put(renewed)); err != nil {
		t.Fatal(err)
	}
	s := newStore(t, db, gormstore.Options{Reader: stale})
	if n, err := s.DeleteExpired(t.Context(), time.UnixMilli(session(1).ExpiresAt), 10); n != 0 || err != nil {
		t.Errorf("got %d, %v; want 0", n, err)
	}
	if n, err := s.DeleteExpired(t.Context(), time.UnixMilli(renewed.ExpiresAt), 10); n != 1 || err != nil {
		t.Errorf("got %d, %v; want 1", n, err)
	}
}
