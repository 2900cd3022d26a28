package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

// numbered returns the nth session.
func numbered(n int) store.Session {
	return store.Session{
		Key: store.SessionKey("secret", "GB", fmt.Sprint(n)), SID: fmt.Sprintf("sid-%d", n), MSISDN: "447400123456",
		Nonce: []byte{}, ExpiresAt: 1,
	}
}

// update runs a unit that names the key of the nth session and, if given, a record that all units
// share.
func update(ctx context.Context, s store.Store, n int, change func(*store.Rows) error, records ...store.Key) error {
	return s.Update(ctx, store.Names{Session: store.SessionRef{Key: numbered(n).Key}, Records: records}, change)
}

// hold keeps a batch of s in progress until release is called, so that other units wait.
func hold(t *testing.T, s *gormstore.Store) (release func()) {
	t.Helper()
	held, let, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err := s.Update(context.Background(), store.Names{}, func(*store.Rows) error {
			close(held)
			<-let
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-held
	release = sync.OnceFunc(func() {
		close(let)
		<-done
	})
	t.Cleanup(release)
	return release
}

// queue calls fn for each i below n in a goroutine, and returns when all of them wait for a batch.
// wait returns when all have ended.
func queue(t *testing.T, s *gormstore.Store, n int, fn func(i int)) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		before := gormstore.Waiting(s)
		wg.Go(func() { fn(i) })
		waitFor(t, "a caller waits", func() bool { return gormstore.Waiting(s) > before })
	}
	return wg.Wait
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// expectKept checks which of the first n sessions are stored.
func expectKept(t *testing.T, s store.Store, n int, want func(i int) bool) {
	t.Helper()
	for i := range n {
		err := expectSID(t.Context(), s, numbered(i).SID)
		switch {
		case want(i) && err != nil:
			t.Errorf("session %d: %v", i, err)
		case !want(i) && !errors.Is(err, store.ErrNotFound):
			t.Errorf("session %d: got %v, want ErrNotFound", i, err)
		}
	}
}

func always(int) bool { return true }

func TestWaitingUnitsShareACommit(t *testing.T) {
	t.Parallel()
	const callers = 2*gormstore.MaxBatch + 10
	s, f := openFaulty(t)
	release := hold(t, s)
	wait := queue(t, s, callers, func(i int) {
		if err := put(t.Context(), s, numbered(i)); err != nil {
			t.Error(err)
		}
	})
	release()
	wait()
	if n := f.count("COMMIT"); n != 1+3 {
		t.Errorf("%d units after another were committed %d times, want 4", callers, n)
	}
	expectKept(t, s, callers, always)
}

// A unit without others runs one BEGIN, one read and one COMMIT.
func TestLoneUnitHasItsOwnTransaction(t *testing.T) {
	t.Parallel()
	s, f := openFaulty(t)
	if err := put(t.Context(), s, numbered(1)); err != nil {
		t.Fatal(err)
	}
	for statement, want := range map[string]int{"BEGIN": 1, "SELECT": 1, "INSERT": 1, "COMMIT": 1, "ROLLBACK": 0} {
		if n := f.count(statement); n != want {
			t.Errorf("%s was run %d times, want %d", statement, n, want)
		}
	}
}

func TestWaitingViewsShareAStatement(t *testing.T) {
	t.Parallel()
	const callers = 32
	s, f := openFaulty(t)
	if err := put(t.Context(), s, numbered(1)); err != nil {
		t.Fatal(err)
	}
	f.reset()
	f.beforeEach(func(string) error { time.Sleep(20 * time.Millisecond); return nil })
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if err := expectSID(t.Context(), s, numbered(1).SID); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := f.count("SELECT"); n > callers/2 {
		t.Errorf("%d views at once ran %d statements", callers, n)
	}
}

var errOwn = errors.New("the unit's own error")

// A unit that fails, panics, ends its goroutine, cannot be stored or is late affects none of the 31
// others in its batch, whatever its position, although all of them write the same record.
func TestFailedUnitAffectsNoOther(t *testing.T) {
	t.Parallel()
	const callers = 32
	ended, cancel := context.WithCancel(t.Context())
	for name, fail := range map[string]func(*store.Rows) error{
		"error":       func(*store.Rows) error { return errOwn },
		"panic":       func(*store.Rows) error { panic(errOwn) },
		"goexit":      func(*store.Rows) error { runtime.Goexit(); return nil },
		"unstorable":  func(rows *store.Rows) error { rows.Session.NextLink = "\xff"; return nil },
		"other names": func(*store.Rows) error { return &store.NamesError{} },
		"late":        nil,
	} {
		for _, failing := range []int{0, 3, callers - 1} {
			t.Run(fmt.Sprint(name, failing), func(t *testing.T) {
				t.Parallel()
				s, f := openFaulty(t)
				release := hold(t, s)
				shared := store.Key{7}
				wait := queue(t, s, callers, func(i int) {
					defer func() {
						if v := recover(); v != nil && (i != failing || v != any(errOwn)) {
							t.Errorf("caller %d got the panic %v", i, v)
						}
					}()
					ctx := t.Context()
					if i == failing && fail == nil {
						ctx = &lateContext{Context: ctx, ended: ended}
					}
					err := update(ctx, s, i, func(rows *store.Rows) error {
						rows.Session = numbered(i)
						for j := range rows.Records {
							rows.Records[j].State += "x"
						}
						if i == failing {
							return fail(rows)
						}
						return nil
					}, shared)
					if (err != nil) != (i == failing) {
						t.Errorf("caller %d got %v", i, err)
					}
				})
				release()
				wait()
				expectKept(t, s, callers, func(i int) bool { return i != failing })
				rows, err := s.View(t.Context(), store.Names{Records: []store.Key{shared}})
				if err != nil || len(rows.Records[0].State) != callers-1 {
					t.Errorf("%d units wrote the record, error %v; want %d", len(rows.Records[0].State), err, callers-1)
				}
				if n := f.count("COMMIT"); n > 5 { // a unit that needs other names runs three more times
					t.Errorf("there were %d commits: the failure was not the unit's alone", n)
				}
			})
		}
	}
	cancel()
}

// lateContext returns an error from Err although Done is not closed, so that the batch notices only
// when it reaches the unit.
type lateContext struct {
	context.Context
	ended context.Context
}

func (c *lateContext) Err() error {
	var pc [16]uintptr
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc[:])])
	for frame, more := frames.Next(); more; frame, more = frames.Next() {
		if strings.HasSuffix(frame.Function, "(*unit).run") {
			return context.Canceled
		}
	}
	return nil
}

// No caller returns before its unit is stored, or with the outcome of another unit in its batch.
func TestNoCallerReturnsBeforeTheCommit(t *testing.T) {
	t.Parallel()
	const callers = 4
	s, f := openFaulty(t)
	release := hold(t, s)
	heard := make(chan int, callers)
	wait := queue(t, s, callers, func(i int) {
		err := update(t.Context(), s, 0, func(rows *store.Rows) error {
			if rows.Session.SID != "" {
				return errOwn // it sees the change of the first unit
			}
			rows.Session = numbered(0)
			return nil
		})
		if i == 0 && err != nil || i > 0 && !errors.Is(err, errOwn) {
			t.Errorf("caller %d got %v", i, err)
		}
		heard <- i
	})
	committing, let := make(chan struct{}), make(chan struct{})
	commits := 0
	f.beforeEach(func(statement string) error {
		if statement == "COMMIT" {
			if commits++; commits == 2 {
				close(committing)
				<-let
			}
		}
		return nil
	})
	release()
	<-committing
	select {
	case i := <-heard:
		t.Errorf("caller %d got its outcome before the commit", i)
	case <-time.After(50 * time.Millisecond):
	}
	close(let)
	wait()
}

// After a failed commit, only the units that cannot be committed alone fail.
func TestFailedCommitIsRetried(t *testing.T) {
	t.Parallel()
	const callers = 5
	s, f := openFaulty(t)
	release := hold(t, s)
	var failed [callers]bool
	wait := queue(t, s, callers, func(i int) {
		err := put(t.Context(), s, numbered(i))
		failed[i] = err != nil
		if err != nil && (!errors.Is(err, errOwn) || !strings.Contains(err.Error(), "commit")) {
			t.Errorf("caller %d got %v, want the failure of the commit", i, err)
		}
	})
	commits, puts := 0, 0
	f.beforeEach(func(statement string) error {
		switch {
		case strings.HasPrefix(statement, "INSERT"):
			puts++
		case statement == "COMMIT":
			// The first COMMIT is that of hold, the second that of the batch. Then each unit has a
			// COMMIT of its own, of which the third fails.
			if commits++; commits == 2 || commits == 5 {
				return errOwn
			}
		}
		return nil
	})
	release()
	wait()
	if commits != 2+callers || puts != 2*callers {
		t.Errorf("%d commits and %d puts, want %d and each unit's twice", commits, puts, 2+callers)
	}
	if n := strings.Count(fmt.Sprint(failed), "true"); n != 1 {
		t.Errorf("%d callers were told of it", n)
	}
	expectKept(t, s, callers, func(i int) bool { return !failed[i] })
}

// A failed statement may have rolled back the batch: all units run again, and only the one that
// causes the failure fails.
func TestFailedStatementFailsOneUnit(t *testing.T) {
	t.Parallel()
	const callers, failing = 32, 4
	s, _ := openFaulty(t)
	if err := put(t.Context(), s, numbered(99)); err != nil {
		t.Fatal(err)
	}
	release := hold(t, s)
	wait := queue(t, s, callers, func(i int) {
		one := numbered(i)
		if i == failing {
			one.SID = numbered(99).SID
		}
		if err := put(t.Context(), s, one); (err != nil) != (i == failing) {
			t.Errorf("caller %d got %v", i, err)
		}
	})
	release()
	wait()
	expectKept(t, s, callers, func(i int) bool { return i != failing })
}

// If a transaction cannot begin, all units of its batch fail.
func TestFailedBeginFailsAllUnits(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits ten seconds for a lock")
	}
	const callers = 3
	s, f := openFaulty(t)
	release := hold(t, s)
	wait := queue(t, s, callers, func(i int) {
		if err := put(t.Context(), s, numbered(i)); !errors.Is(err, errOwn) {
			t.Errorf("caller %d got %v", i, err)
		}
	})
	f.beforeEach(func(statement string) error {
		if statement == "BEGIN" {
			return errOwn
		}
		return nil
	})
	release()
	wait()
	f.beforeEach(nil)
	if err := put(t.Context(), s, numbered(0)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A caller that gives up while it waits only leaves the queue.
func TestCancelledCallerDoesNotAffectOthers(t *testing.T) {
	t.Parallel()
	const callers = 6
	s, _ := openFaulty(t)
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var left sync.WaitGroup
	left.Add(callers / 2)
	wait := queue(t, s, callers, func(i int) {
		if i%2 == 0 {
			if err := put(t.Context(), s, numbered(i)); err != nil {
				t.Errorf("caller %d got %v", i, err)
			}
			return
		}
		defer left.Done()
		if err := put(ctx, s, numbered(i)); !errors.Is(err, context.Canceled) {
			t.Errorf("caller %d got %v", i, err)
		}
	})
	cancel()
	left.Wait() // while the batch is still in progress
	release()
	wait()
	expectKept(t, s, callers, func(i int) bool { return i%2 == 0 })
}

// A stalled batch, for example one whose connection is dead, delays the next one only briefly.
func TestStalledBatchDoesNotDelayTheNext(t *testing.T) {
	t.Parallel()
	s, _ := openFaulty(t)
	gormstore.SetStallTimeout(s, 20*time.Millisecond)
	release := hold(t, s) // holds SQLite's lock too, so this unit changes nothing
	done := make(chan error, 1)
	go func() { done <- expectSID(t.Context(), s, session(0).SID) }()
	if err := <-done; err != nil {
		t.Errorf("View: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go func() { time.Sleep(200 * time.Millisecond); release() }()
	if err := put(ctx, s, numbered(1)); err != nil {
		t.Errorf("Update: %v", err)
	}
}

// TestBatchesUnderFaults lets units end in various ways while statements and commits fail at
// random. A unit that was reported as stored is stored, and no other is.
func TestBatchesUnderFaults(t *testing.T) {
	t.Parallel()
	const callers, each = 24, 40
	s, f := openFaulty(t)
	f.beforeEach(func(string) error {
		if rand.N(60) == 0 {
			return errOwn
		}
		return nil
	})
	kept := make([]bool, callers*each)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c * each; i < (c+1)*each; i++ {
				kept[i] = faultyUpdate(s, i) == nil
			}
		})
	}
	wg.Wait()
	f.beforeEach(nil)
	expectKept(t, s, len(kept), func(i int) bool { return kept[i] })
}

func faultyUpdate(s *gormstore.Store, i int) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if rand.N(10) == 0 {
		time.AfterFunc(rand.N(time.Millisecond), cancel)
	}
	return update(ctx, s, i, func(rows *store.Rows) error {
		rows.Session = numbered(i)
		switch rand.N(20) {
		case 0:
			return errOwn
		case 1:
			panic(errOwn)
		default:
			return nil
		}
	})
}

// A unit that has panicked is not run again with its batch, even if another unit makes the batch
// run again: nobody would receive its rows, and the batch would wait forever.
func TestPanicInABatchThatIsRetried(t *testing.T) {
	t.Parallel()
	const callers, panics, taken = 8, 2, 5
	s, _ := openFaulty(t)
	if err := put(t.Context(), s, numbered(99)); err != nil {
		t.Fatal(err)
	}
	release := hold(t, s)
	wait := queue(t, s, callers, func(i int) {
		defer func() { _ = recover() }()
		err := update(t.Context(), s, i, func(rows *store.Rows) error {
			if i == panics {
				panic(errOwn)
			}
			rows.Session = numbered(i)
			if i == taken {
				rows.Session.SID = numbered(99).SID
			}
			return nil
		})
		if (err != nil) != (i == taken) {
			t.Errorf("caller %d got %v", i, err)
		}
	})
	release()
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("the batch hangs")
	}
	expectKept(t, s, callers, func(i int) bool { return i != panics && i != taken })
}
