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

// numbered returns the nth of many sessions.
func numbered(n int) store.Session {
	return store.Session{
		Key: store.SessionKey("secret", "GB", fmt.Sprint(n)), SID: fmt.Sprintf("sid-%d", n), MSISDN: "447400123456",
		Nonce: []byte{}, ExpiresAt: 1,
	}
}

// hold keeps the writer of s busy until release is called, so that others queue.
func hold(t *testing.T, s *gormstore.Store) (release func()) {
	t.Helper()
	held, let, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err := s.Update(context.Background(), func(store.Tx) error {
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

// queue starts fn for each i below n and returns when all of them wait for the
// writer; wait returns when all have ended.
func queue(t *testing.T, s *gormstore.Store, n int, fn func(i int)) (wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range n {
		before := gormstore.Waiting(s)
		wg.Go(func() { fn(i) })
		waitFor(t, "a caller queues", func() bool { return gormstore.Waiting(s) > before })
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

// expectKept checks which of the first n sessions are there.
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
		if err := s.Update(t.Context(), put(numbered(i))); err != nil {
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

// Who is alone pays for no company: one BEGIN, one COMMIT, no savepoint.
func TestALoneUnitHasItsTransactionForItself(t *testing.T) {
	t.Parallel()
	s, f := openFaulty(t)
	if err := s.Update(t.Context(), put(numbered(1))); err != nil {
		t.Fatal(err)
	}
	for statement, want := range map[string]int{"BEGIN": 1, "COMMIT": 1, "SAVEPOINT": 0, "RELEASE": 0, "ROLLBACK": 0} {
		if n := f.count(statement); n != want {
			t.Errorf("%s was run %d times, want %d", statement, n, want)
		}
	}
}

var errOwn = errors.New("the unit's own error")

// A unit that fails, panics or ends its goroutine takes what it wrote with it,
// and nothing of the others.
func TestAFailedUnitHarmsNoOther(t *testing.T) {
	t.Parallel()
	const callers = 8
	for name, fail := range map[string]func() error{
		"error":  func() error { return errOwn },
		"panic":  func() error { panic(errOwn) },
		"goexit": func() error { runtime.Goexit(); return nil },
	} {
		for _, failing := range []int{0, 3, callers - 1} {
			t.Run(fmt.Sprint(name, failing), func(t *testing.T) {
				t.Parallel()
				s, f := openFaulty(t)
				release := hold(t, s)
				wait := queue(t, s, callers, func(i int) {
					defer func() {
						if v := recover(); v != nil && (i != failing || v != any(errOwn)) {
							t.Errorf("caller %d got the panic %v", i, v)
						}
					}()
					err := s.Update(t.Context(), func(tx store.Tx) error {
						if err := tx.PutSession(numbered(i)); err != nil || i != failing {
							return err
						}
						return fail()
					})
					if i != failing && err != nil || i == failing && !errors.Is(err, errOwn) {
						t.Errorf("caller %d got %v", i, err)
					}
				})
				release()
				wait()
				expectKept(t, s, callers, func(i int) bool { return i != failing })
				if n := f.count("COMMIT"); n != 2 {
					t.Errorf("there were %d commits: the failure was not the unit's alone", n)
				}
			})
		}
	}
}

// Nobody hears that a unit is kept before it is, nor of what another unit of
// the same transaction did.
func TestNobodyHearsBeforeTheCommit(t *testing.T) {
	t.Parallel()
	const callers = 4
	s, f := openFaulty(t)
	release := hold(t, s)
	heard := make(chan int, callers)
	wait := queue(t, s, callers, func(i int) {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			if _, err := tx.SessionBySID(numbered(0).SID); err == nil {
				return errOwn // it reads what the first has put
			}
			return tx.PutSession(numbered(i))
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
		t.Errorf("caller %d was answered before the commit", i)
	case <-time.After(50 * time.Millisecond):
	}
	close(let)
	wait()
}

// A commit that fails is told to who cannot be committed alone either, and to
// no other.
func TestAFailedCommitIsRunAgain(t *testing.T) {
	t.Parallel()
	const callers = 5
	s, f := openFaulty(t)
	release := hold(t, s)
	var failed [callers]bool
	wait := queue(t, s, callers, func(i int) {
		err := s.Update(t.Context(), put(numbered(i)))
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
			// The first is the holder's, the second everyone's. Then each has
			// one of its own, of which the third fails.
			if commits++; commits == 2 || commits == 5 {
				return errOwn
			}
			time.Sleep(5 * time.Millisecond) // so that all come to wait again
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

// A statement that fails may have rolled back all: everyone is run again, and
// the failure is the one unit's.
func TestAFailedStatementIsTheUnitsAlone(t *testing.T) {
	t.Parallel()
	const callers = 6
	s, _ := openFaulty(t)
	if err := s.Update(t.Context(), put(numbered(99))); err != nil {
		t.Fatal(err)
	}
	release := hold(t, s)
	var runs [callers]int
	wait := queue(t, s, callers, func(i int) {
		one := numbered(i)
		if i == 4 {
			one.SID = numbered(99).SID
		}
		err := s.Update(t.Context(), func(tx store.Tx) error {
			runs[i]++
			return tx.PutSession(one)
		})
		if (err != nil) != (i == 4) {
			t.Errorf("caller %d got %v", i, err)
		}
	})
	release()
	wait()
	if runs[0] != 2 || runs[callers-1] != 1 {
		t.Errorf("runs %v: those before the failure twice, those after it once", runs)
	}
	expectKept(t, s, callers, func(i int) bool { return i != 4 })
}

// A transaction that cannot begin is everyone's trouble, and each is told.
func TestAFailedBeginIsToldToAll(t *testing.T) {
	t.Parallel()
	const callers = 3
	s, f := openFaulty(t)
	release := hold(t, s)
	wait := queue(t, s, callers, func(i int) {
		if err := s.Update(t.Context(), put(numbered(i))); !errors.Is(err, errOwn) {
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
	if err := s.Update(t.Context(), put(numbered(0))); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// Who gives up while it waits leaves the queue and nothing else.
func TestACallerThatLeavesDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	const callers = 6
	s, _ := openFaulty(t)
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var left sync.WaitGroup
	left.Add(callers / 2)
	wait := queue(t, s, callers, func(i int) {
		if i%2 == 0 {
			if err := s.Update(t.Context(), put(numbered(i))); err != nil { //nolint:contextcheck // this one stays
				t.Errorf("caller %d got %v", i, err)
			}
			return
		}
		defer left.Done()
		if err := s.Update(ctx, put(numbered(i))); !errors.Is(err, context.Canceled) {
			t.Errorf("caller %d got %v", i, err)
		}
	})
	cancel()
	left.Wait() // while the writer is still busy
	release()
	wait()
	expectKept(t, s, callers, func(i int) bool { return i%2 == 0 })
}

// Who gives up while its batch is under way is not run, and the batch goes on.
func TestACallerThatGivesUpInABatch(t *testing.T) {
	t.Parallel()
	s, _ := openFaulty(t)
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	wait := queue(t, s, 3, func(i int) {
		switch i {
		case 0:
			err := s.Update(t.Context(), func(tx store.Tx) error { //nolint:contextcheck // this one stays
				cancel() // the next one has its place in this transaction already
				return tx.PutSession(numbered(i))
			})
			if err != nil {
				t.Error(err)
			}
		case 1:
			if err := s.Update(ctx, put(numbered(i))); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		default:
			if err := s.Update(t.Context(), put(numbered(i))); err != nil { //nolint:contextcheck // this one stays
				t.Error(err)
			}
		}
	})
	release()
	wait()
	expectKept(t, s, 3, func(i int) bool { return i != 1 })
}

// TestBatchesUnderFaults has many units end in every way there is while
// statements and commits fail at random: what was reported kept is there, and
// what was not is not.
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
	return s.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.SessionByKey(numbered(i).Key); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := tx.PutSession(numbered(i)); err != nil {
			return err
		}
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
