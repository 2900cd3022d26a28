package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/threepid/store"
)

// callers is how many goroutines the checks of concurrency start.
const callers = 32

// concurrencyChecks check concurrent units of work.
func concurrencyChecks() []storeCheck {
	return []storeCheck{
		{"ConcurrentIncrements", checkIncrements},
		{"ConcurrentCreation", checkCreation},
		{"ConcurrentKeys", checkKeys},
		{"ConcurrentCrossing", checkCrossing},
		{"ConcurrentRecords", checkConcurrentRecords},
		{"ReadRowsArePartOfTheUnit", checkReadRows},
		{"AbsentRowsArePartOfTheUnit", checkAbsentRows},
		{"ViewIsConsistent", checkConsistent},
		{"FailuresTouchNoOther", checkNeighbours},
	}
}

// together runs fn n times concurrently and joins the errors.
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

// checkIncrements lets all callers increment a counter in one session, half of them by its sid.
func checkIncrements(ctx context.Context, s store.Store) error {
	const each = 5
	counter := sample(1)
	counter.Attempt = 0
	if err := put(ctx, s, counter); err != nil {
		return err
	}
	err := together(callers, func(i int) error {
		names := byKey(counter.Key)
		if i%2 == 0 {
			names = bySID(counter.SID)
		}
		for range each {
			if err := s.Update(ctx, names, func(rows *store.Rows) error { rows.Session.Attempt++; return nil }); err != nil {
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

// checkCreation lets all callers find or create the same session. Only one of them may create it.
func checkCreation(ctx context.Context, s store.Store) error {
	const rounds = 5
	for round := range rounds {
		var creators atomic.Int64
		err := together(callers, func(i int) error {
			created := false
			err := s.Update(ctx, byKey(keyOf(round)), func(rows *store.Rows) error {
				created = rows.Session.SID == ""
				if created {
					rows.Session = sample(round)
					rows.Session.SID, rows.Session.Attempt = fmt.Sprintf("sid-%d-%d", round, i), 0
				}
				rows.Session.Attempt++
				return nil
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
		rows, err := s.View(ctx, byKey(keyOf(round)))
		if err != nil {
			return err
		}
		if rows.Session.Attempt != callers {
			return fmt.Errorf("%d Updates counted %d in the session that one of them created", callers, rows.Session.Attempt)
		}
	}
	return nil
}

// checkKeys lets each caller use sessions of its own.
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

// countIn increments a counter in records, which may be empty.
func countIn(records []store.Record) error {
	for i := range records {
		n := 0
		if state := records[i].State; state != "" {
			if _, err := fmt.Sscan(state, &n); err != nil {
				return err
			}
		}
		records[i].State, records[i].ExpiresAt = fmt.Sprint(n+1), 1_700_000_000_000
	}
	return nil
}

// checkCrossing runs units that name two records in opposite order. If rows are locked in that
// order, the units deadlock.
func checkCrossing(ctx context.Context, s store.Store) error {
	const units, each = 4, 5
	keys := recordKeys(2)
	err := together(units, func(i int) error {
		names := store.Names{Records: []store.Key{keys[i%2], keys[1-i%2]}}
		for range each {
			err := s.Update(ctx, names, func(rows *store.Rows) error {
				time.Sleep(time.Millisecond) // so that the others get half-way too
				return countIn(rows.Records)
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
	want := fmt.Sprint(units * each)
	return expectRecords(ctx, s,
		store.Record{Key: keys[0], State: want, ExpiresAt: 1_700_000_000_000},
		store.Record{Key: keys[1], State: want, ExpiresAt: 1_700_000_000_000})
}

// checkConcurrentRecords lets all callers increment records that are absent at first, some of them
// shared, and a session of their own.
func checkConcurrentRecords(ctx context.Context, s store.Store) error {
	const each, records = 3, 4
	keys := recordKeys(records)
	err := together(callers, func(i int) error {
		for range each {
			names := byKey(keyOf(i), keys[i%records], keys[(i+1)%records])
			err := s.Update(ctx, names, func(rows *store.Rows) error {
				rows.Session = sample(i)
				return countIn(rows.Records)
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
	want := make([]store.Record, records)
	for i := range want {
		want[i] = store.Record{Key: keys[i], State: fmt.Sprint(2 * each * callers / records), ExpiresAt: 1_700_000_000_000}
	}
	return expectRecords(ctx, s, want...)
}

// skew runs two concurrent units, each of which takes its own row if the other's is free. It
// returns an error if both did. Neither writes the row that the other one writes.
func skew(ctx context.Context, s store.Store, names store.Names, isFree, take [2]func(*store.Rows) bool) error {
	var took [2]bool
	err := together(2, func(i int) error {
		return s.Update(ctx, names, func(rows *store.Rows) error {
			took[i] = isFree[1-i](rows)
			time.Sleep(time.Millisecond) // so that the other one gets here
			if took[i] {
				take[i](rows)
			}
			return nil
		})
	})
	if err == nil && took[0] && took[1] {
		err = errors.New("two units each found the row free that the other took: what a unit reads is not part of it")
	}
	return err
}

const skewRounds = 8

func recordFree(i int) func(*store.Rows) bool {
	return func(rows *store.Rows) bool { return rows.Records[i].State != "taken" }
}

func takeRecord(i int) func(*store.Rows) bool {
	return func(rows *store.Rows) bool {
		rows.Records[i].State, rows.Records[i].ExpiresAt = "taken", 1_700_000_000_000
		return true
	}
}

// checkReadRows runs two units, each of which reads the row that the other one writes.
func checkReadRows(ctx context.Context, s store.Store) error {
	keys := recordKeys(2)
	for range skewRounds {
		if err := putRecords(ctx, s, record(keys[0], "free"), record(keys[1], "free")); err != nil {
			return err
		}
		err := skew(ctx, s, store.Names{Records: keys},
			[2]func(*store.Rows) bool{recordFree(0), recordFree(1)}, [2]func(*store.Rows) bool{takeRecord(0), takeRecord(1)})
		if err != nil {
			return fmt.Errorf("two records: %w", err)
		}
		session := sample(1)
		session.Attempt = 0
		if err := errors.Join(put(ctx, s, session), putRecords(ctx, s, record(keys[0], "free"))); err != nil {
			return err
		}
		sessionFree := func(rows *store.Rows) bool { return rows.Session.Attempt == 0 }
		takeSession := func(rows *store.Rows) bool { rows.Session.Attempt = 1; return true }
		err = skew(ctx, s, bySID(session.SID, keys[0]),
			[2]func(*store.Rows) bool{recordFree(0), sessionFree}, [2]func(*store.Rows) bool{takeRecord(0), takeSession})
		if err != nil {
			return fmt.Errorf("a record and a session: %w", err)
		}
	}
	return nil
}

// checkAbsentRows is checkReadRows with rows that are absent.
func checkAbsentRows(ctx context.Context, s store.Store) error {
	for round := range skewRounds {
		a, b := store.RecordKey("skew", "a", fmt.Sprint(round)), store.RecordKey("skew", "b", fmt.Sprint(round))
		err := skew(ctx, s, store.Names{Records: []store.Key{a, b}},
			[2]func(*store.Rows) bool{recordFree(0), recordFree(1)}, [2]func(*store.Rows) bool{takeRecord(0), takeRecord(1)})
		if err != nil {
			return fmt.Errorf("two records: %w", err)
		}
		c := store.RecordKey("skew", "c", fmt.Sprint(round))
		sessionFree := func(rows *store.Rows) bool { return rows.Session.SID == "" }
		takeSession := func(rows *store.Rows) bool { rows.Session = sample(round); return true }
		err = skew(ctx, s, byKey(keyOf(round), c),
			[2]func(*store.Rows) bool{recordFree(0), sessionFree}, [2]func(*store.Rows) bool{takeRecord(0), takeSession})
		if err != nil {
			return fmt.Errorf("a record and a session: %w", err)
		}
		// Whichever unit was first, the session can be created now and is found.
		session := sample(round)
		if err := put(ctx, s, session); err != nil {
			return err
		}
		if err := expect(ctx, s, session); err != nil {
			return err
		}
	}
	return nil
}

// checkConsistent lets writers increment a session and a record together. Every reader must see
// equal counts.
func checkConsistent(ctx context.Context, s store.Store) error {
	const writers, readers, views = 4, 4, 25
	session := sample(1)
	session.Attempt = 1
	key := recordKeys(1)[0]
	names := byKey(session.Key, key)
	bump := func(rows *store.Rows) error {
		rows.Session.Attempt++
		return countIn(rows.Records)
	}
	if err := errors.Join(put(ctx, s, session), putRecords(ctx, s, store.Record{Key: key, State: "1"})); err != nil {
		return err
	}
	// The writers continue until all readers are done: a writer that finished before the first View
	// would test nothing.
	var reading atomic.Int64
	reading.Store(readers)
	return together(writers+readers, func(i int) error {
		if i < readers {
			defer reading.Add(-1)
			for range views {
				rows, err := s.View(ctx, names)
				if err != nil {
					return err
				}
				if fmt.Sprint(rows.Session.Attempt) != rows.Records[0].State {
					return fmt.Errorf("View saw %d and %s, which each Update leaves equal", rows.Session.Attempt, rows.Records[0].State)
				}
			}
			return nil
		}
		for reading.Load() > 0 {
			if err := s.Update(ctx, names, bump); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkNeighbours lets units fail in various ways, each among 31 concurrent units that must
// succeed.
func checkNeighbours(ctx context.Context, s store.Store) error {
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	taken := sample(1000)
	if err := put(ctx, s, taken); err != nil {
		return err
	}
	for round, guilty := range []func(*store.Rows) error{
		func(*store.Rows) error { return errOwn },
		func(*store.Rows) error { panic(errOwn) },
		func(*store.Rows) error { return &store.NamesError{} },
		func(rows *store.Rows) error { rows.Session.SID = strings.Repeat("x", 1000); return nil },
		func(rows *store.Rows) error { rows.Session.NextLink = "\xff"; return nil },
		func(rows *store.Rows) error { rows.Session.SID = taken.SID; return nil },
		nil, // a unit whose context has ended
	} {
		const who = callers / 2
		err := together(callers, func(i int) error {
			session := sample(round*callers + i)
			failed := false
			_, err := recovered(func() error {
				own := ctx
				if i == who && guilty == nil {
					own = cancelled
				}
				failed = true
				err := s.Update(own, byKey(session.Key), func(rows *store.Rows) error {
					time.Sleep(time.Millisecond / 4) // so that others arrive
					rows.Session = session
					if i == who && guilty != nil {
						return guilty(rows)
					}
					return nil
				})
				failed = err != nil
				return err
			})
			if i == who && !failed {
				return errors.New("the failed unit succeeded")
			}
			if i == who {
				return expectNone(ctx, s, session)
			}
			if err != nil || failed {
				return fmt.Errorf("an innocent unit failed: %w", orNone(err))
			}
			return expect(ctx, s, session)
		})
		if err != nil {
			return fmt.Errorf("failure %d: %w", round, err)
		}
	}
	return nil
}
