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

	"gorm.io/gorm"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

// If a duplicate remains after retries, the error contains none of the values.
func TestErrorsContainNoValues(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	if err := put(t.Context(), s, session(1)); err != nil {
		t.Fatal(err)
	}
	clash := session(2)
	clash.SID = session(1).SID
	err := put(t.Context(), s, clash)
	if err == nil {
		t.Fatal("two sessions have one sid")
	}
	if !strings.HasPrefix(err.Error(), "gormstore: write rows: ") {
		t.Errorf("the error does not say what was done: %v", err)
	}
	for _, value := range []string{clash.SID, clash.MSISDN} {
		if strings.Contains(err.Error(), value) {
			t.Errorf("the error contains %s: %v", value, err)
		}
	}
}

// Errors of change are not treated as the database's, whatever they contain.
func TestUpdateIsNotRetriedAfterTheUnitsError(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	own, runs := errors.New("database is locked"), 0
	err := update(t.Context(), s, 1, func(*store.Rows) error { runs++; return own })
	if !errors.Is(err, own) || runs != 1 {
		t.Errorf("got %v after %d runs", err, runs)
	}
}

// After a connection breaks before the commit, the unit runs again on the next connection: nothing
// was stored.
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
				err := put(t.Context(), s, session(1))
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

// Errors for a deadlock or a serialisation failure mean that nothing of the unit was stored. It
// runs again, even if COMMIT returned the error.
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
				err := put(t.Context(), s, session(1))
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

// stateError is an error with an SQLSTATE, like those of drivers for PostgreSQL.
type stateError string

func (s stateError) Error() string    { return "error " + string(s) }
func (s stateError) SQLState() string { return string(s) }

// A unit does not wait forever for a database that does not come back.
func TestRetriesAfterLostConnectionsAreBounded(t *testing.T) {
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
	err := put(t.Context(), s, session(1))
	if !errors.Is(err, io.ErrUnexpectedEOF) || tries < 3 || tries > 20 {
		t.Errorf("got %v after %d tries", err, tries)
	}
}

// A unit that waits for another one returns when its context ends.
func TestWaitingUpdateReturnsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	start := time.Now()
	err := update(t.Context(), s, 1, func(*store.Rows) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		err := update(ctx, s, 1, func(*store.Rows) error {
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
	if waited := time.Since(start); waited > 2*time.Second { // SQLite would wait five
		t.Errorf("it waited %v", waited)
	}
}

// A unit that has begun is completed.
func TestUpdateCompletesAfterItsContextEnds(t *testing.T) {
	t.Parallel()
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	names, change := fill(session(1))
	err := s.Update(ctx, names, func(rows *store.Rows) error {
		cancel()
		return change(rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := expectSID(t.Context(), s, session(1).SID); err != nil {
		t.Error(err)
	}
}

// A limit that is greater than a batch.
func TestDeleteExpiredMany(t *testing.T) {
	t.Parallel()
	const total = 300
	s := newStore(t, openHost(t, nil), gormstore.Options{})
	var keys []store.Key
	for i := range total {
		keys = append(keys, store.RecordKey("many", fmt.Sprint(i)))
	}
	err := s.Update(t.Context(), store.Names{Records: keys}, func(rows *store.Rows) error {
		for i := range rows.Records {
			rows.Records[i].State, rows.Records[i].ExpiresAt = "x", 1
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

// UpdateTx is part of the host's transaction: it is stored with it, or not at all.
func TestUpdateTx(t *testing.T) {
	t.Parallel()
	db := openHost(t, nil)
	s := newStore(t, db, gormstore.Options{})
	names, change := fill(session(1))
	for _, outcome := range []error{errOwn, nil} {
		err := db.Transaction(func(tx *gorm.DB) error {
			return errors.Join(s.UpdateTx(t.Context(), tx, names, change), outcome)
		})
		if !errors.Is(err, outcome) {
			t.Errorf("got %v, want %v", err, outcome)
		}
		if err := expectSID(t.Context(), s, session(1).SID); (err == nil) != (outcome == nil) {
			t.Errorf("after a transaction with the outcome %v: %v", outcome, err)
		}
	}
	if err := s.UpdateTx(t.Context(), db, names, change); err == nil {
		t.Error("UpdateTx outside a transaction returned nil")
	}
	err := db.Transaction(func(tx *gorm.DB) error {
		return s.UpdateTx(t.Context(), tx, names, func(rows *store.Rows) error {
			if rows.Session.SID != session(1).SID {
				t.Errorf("UpdateTx read %+v", rows.Session)
			}
			return errOwn
		})
	})
	if !errors.Is(err, errOwn) {
		t.Errorf("got %v, want the error of change", err)
	}
}

// The pause before another try stays short, however often a unit has run.
func TestPauseIsBounded(t *testing.T) {
	t.Parallel()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for try := range 200 {
		if err := gormstore.Pause(over, try); !errors.Is(err, context.Canceled) && err != nil {
			t.Errorf("try %d: %v", try, err)
		}
	}
}
