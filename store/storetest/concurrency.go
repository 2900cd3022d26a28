package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"example.com/threepid/store"
)

// callers is how many goroutines the checks of concurrency start at once.
const callers = 32

// concurrencyChecks are about units of work that run at the same time.
func concurrencyChecks() []storeCheck {
	return []storeCheck{
		{"ConcurrentIncrements", checkIncrements},
		{"ConcurrentCreation", checkCreation},
		{"ConcurrentKeys", checkKeys},
		{"ConcurrentCrossing", checkCrossing},
		{"ViewIsConsistent", checkConsistent},
	}
}

// together runs fn n times at once and joins the errors.
func together(n int, fn func(i int) error) error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return errors.Join(errs...)
}

// checkIncrements has all callers count in one session, half of them by its sid.
func checkIncrements(ctx context.Context, s store.Store) error {
	const each = 5
	counter := sample(1)
	counter.Attempt = 0
	if err := put(ctx, s, counter); err != nil {
		return err
	}
	err := together(callers, func(i int) error {
		for range each {
			err := s.Update(ctx, func(tx store.Tx) error { return increment(tx, counter, i%2 == 0) })
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	counter.Attempt = callers * each
	if err := expect(ctx, s, counter); err != nil {
		return fmt.Errorf("after %d increments of Attempt: %w", callers*each, err)
	}
	return nil
}

func increment(tx store.Tx, counter store.Session, bySID bool) error {
	read := func() (store.Session, error) { return tx.SessionByKey(counter.Key) }
	if bySID {
		read = func() (store.Session, error) { return tx.SessionBySID(counter.SID) }
	}
	session, err := read()
	if err != nil {
		return err
	}
	session.Attempt++
	return tx.PutSession(session)
}

// checkCreation has all callers find or create the same sessions. Of each, one
// caller alone may create it.
func checkCreation(ctx context.Context, s store.Store) error {
	const rounds = 5
	for round := range rounds {
		var creators atomic.Int64
		err := together(callers, func(i int) error {
			created := false
			err := s.Update(ctx, func(tx store.Tx) (err error) {
				created, err = findOrCreate(tx, round, i)
				return err
			})
			if created && err == nil {
				creators.Add(1)
			}
			return err
		})
		if err != nil {
			return err
		}
		if n := creators.Load(); n != 1 {
			return fmt.Errorf("of %d Updates at once, %d found no session, created it and succeeded; want 1", callers, n)
		}
		var session store.Session
		err = s.View(ctx, func(tx store.Tx) (err error) {
			session, err = tx.SessionByKey(keyOf(round))
			return err
		})
		if err != nil {
			return err
		}
		if session.Attempt != callers {
			return fmt.Errorf("%d Updates counted %d in the session that one of them created", callers, session.Attempt)
		}
	}
	return nil
}

func findOrCreate(tx store.Tx, n, caller int) (created bool, err error) {
	session, err := tx.SessionByKey(keyOf(n))
	if errors.Is(err, store.ErrNotFound) {
		created = true
		session, err = sample(n), nil
		session.SID = fmt.Sprintf("sid-%d-%d", n, caller)
		session.Attempt = 0
	}
	if err != nil {
		return false, err
	}
	session.Attempt++
	return created, tx.PutSession(session)
}

// checkKeys has each caller work on sessions of its own.
func checkKeys(ctx context.Context, s store.Store) error {
	const each = 5
	return together(callers, func(i int) error {
		for j := range each {
			session := sample(i*each + j)
			if err := put(ctx, s, session); err != nil {
				return err
			}
			session.Attempt++
			if err := change(ctx, s, session.Key, func(read *store.Session) { read.Attempt++ }); err != nil {
				return err
			}
			if err := expect(ctx, s, session); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkCrossing has units take two sessions in opposite order: where sessions
// are locked one by one, that is a deadlock, which the store has to settle.
func checkCrossing(ctx context.Context, s store.Store) error {
	const units, each = 4, 5
	first, second := sample(1), sample(2)
	first.Attempt, second.Attempt = 0, 0
	if err := put(ctx, s, first, second); err != nil {
		return err
	}
	err := together(units, func(i int) error {
		one, other := first, second
		if i%2 == 0 {
			one, other = second, first
		}
		for range each {
			err := s.Update(ctx, func(tx store.Tx) error {
				if err := increment(tx, one, false); err != nil {
					return err
				}
				time.Sleep(time.Millisecond) // for the others to come half-way too
				return increment(tx, other, false)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	first.Attempt, second.Attempt = units*each, units*each
	return errors.Join(expect(ctx, s, first), expect(ctx, s, second))
}

// checkConsistent has writers count in two sessions at once, which must look
// equal to whoever reads them meanwhile.
func checkConsistent(ctx context.Context, s store.Store) error {
	const writers, readers, views = 4, 4, 25
	first, second := sample(1), sample(2)
	if err := put(ctx, s, first, second); err != nil {
		return err
	}
	// The writers go on for as long as somebody reads: one that was done before
	// the first View would disturb nobody.
	var reading atomic.Int64
	reading.Store(readers)
	return together(writers+readers, func(i int) error {
		if i < readers {
			defer reading.Add(-1)
			for range views {
				if err := expectEqual(ctx, s, first.Key, second.Key); err != nil {
					return err
				}
			}
			return nil
		}
		for reading.Load() > 0 {
			err := s.Update(ctx, func(tx store.Tx) error {
				return errors.Join(increment(tx, first, false), increment(tx, second, false))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func expectEqual(ctx context.Context, s store.Store, first, second store.Key) error {
	return s.View(ctx, func(tx store.Tx) error {
		a, err := tx.SessionByKey(first)
		if err != nil {
			return err
		}
		b, err := tx.SessionByKey(second)
		if err != nil {
			return err
		}
		if a.Attempt != b.Attempt {
			return fmt.Errorf("View saw %d and %d, which each Update leaves equal", a.Attempt, b.Attempt)
		}
		return nil
	})
}
