package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/threepid/store"
)

// bucketChecks are about buckets: alone, in one unit with sessions, and many
// units at once.
func bucketChecks() []storeCheck {
	return []storeCheck{
		{"BucketsRoundTrip", checkBuckets},
		{"BucketsAreInTheOrderOfTheKeys", checkBucketOrder},
		{"BucketsReplace", checkBucketsReplace},
		{"BucketsReadTheirOwnWrites", checkBucketsOwnWrites},
		{"BucketsFailureKeepsNothing", checkBucketsFailure},
		{"BucketsUnreadAreNotPut", checkBucketsUnread},
		{"BucketsAreReadOnlyInView", checkBucketsReadOnly},
		{"BucketsExpire", checkBucketsExpire},
		{"ConcurrentBuckets", checkConcurrentBuckets},
		{"ConcurrentBucketCreation", checkBucketCreation},
		{"ViewOfBucketsIsConsistent", checkBucketsConsistent},
	}
}

// bucketKeys are the keys of so many buckets, in no order.
func bucketKeys(n int) []store.Key {
	keys := make([]store.Key, n)
	for i := range keys {
		keys[i] = store.BucketKey("scope", fmt.Sprint(i), "subject")
	}
	return keys
}

// bucket is one that says which it is.
func bucket(key store.Key, says string) store.Bucket {
	return store.Bucket{Key: key, State: fmt.Sprintf(`{"says":%q}`, says), ExpiresAt: 1_700_000_000_000}
}

// fill has a unit read the buckets with the keys and put what says of each.
func fill(tx store.Tx, keys []store.Key, says string) error {
	if _, err := tx.Buckets(keys); err != nil {
		return err
	}
	buckets := make([]store.Bucket, len(keys))
	for i, key := range keys {
		buckets[i] = bucket(key, fmt.Sprint(says, i))
	}
	return tx.PutBuckets(buckets)
}

func putBuckets(ctx context.Context, s store.Store, keys []store.Key, says string) error {
	if err := s.Update(ctx, func(tx store.Tx) error { return fill(tx, keys, says) }); err != nil {
		return fmt.Errorf("put buckets: %w", err)
	}
	return nil
}

// expectBuckets checks that both View and Update find the buckets.
func expectBuckets(ctx context.Context, s store.Store, want ...store.Bucket) error {
	read := func(tx store.Tx) error { return expectBucketsIn(tx, want...) }
	if err := s.View(ctx, read); err != nil {
		return fmt.Errorf("in View: %w", err)
	}
	if err := s.Update(ctx, read); err != nil {
		return fmt.Errorf("in Update: %w", err)
	}
	return nil
}

func expectBucketsIn(tx store.Tx, want ...store.Bucket) error {
	keys := make([]store.Key, len(want))
	for i := range want {
		keys[i] = want[i].Key
	}
	got, err := tx.Buckets(keys)
	if err != nil {
		return fmt.Errorf("read buckets: %w", err)
	}
	if len(got) != len(want) {
		return fmt.Errorf("of %d buckets asked for, %d came", len(want), len(got))
	}
	var errs []error
	for i := range want {
		if got[i] != want[i] {
			errs = append(errs, fmt.Errorf("of %d buckets, number %d is %.120v, want %.120v", len(want), i, got[i], want[i]))
		}
	}
	return errors.Join(errs...)
}

func checkBuckets(ctx context.Context, s store.Store) error {
	keys := bucketKeys(3)
	longest := bucket(keys[0], "")
	longest.State = "{\"'\\\x01é中;--%_?"
	longest.State += strings.Repeat("🙂", (2000-len(longest.State))/4)
	absent := store.Bucket{Key: keys[1]}
	negative := store.Bucket{Key: keys[2], State: "", ExpiresAt: -1}
	if err := expectBuckets(ctx, s, absent); err != nil {
		return fmt.Errorf("one that is absent: %w", err)
	}
	err := s.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Buckets(keys); err != nil {
			return err
		}
		return errors.Join(tx.PutBuckets([]store.Bucket{negative, longest}), tx.PutBuckets(nil))
	})
	if err != nil {
		return err
	}
	if err := s.View(ctx, func(tx store.Tx) error {
		none, err := tx.Buckets(nil)
		if err == nil && len(none) > 0 {
			err = errors.New("for no keys there are some buckets")
		}
		return err
	}); err != nil {
		return err
	}
	return expectBuckets(ctx, s, longest, absent, negative)
}

func checkBucketOrder(ctx context.Context, s store.Store) error {
	const n = 20 // more than one would read with one statement
	keys := bucketKeys(n)
	if err := putBuckets(ctx, s, keys, "bucket"); err != nil {
		return err
	}
	want := make([]store.Bucket, n)
	for i, key := range keys {
		want[i] = bucket(key, fmt.Sprint("bucket", i))
	}
	if err := expectBuckets(ctx, s, want...); err != nil {
		return err
	}
	slices.Reverse(want)
	return expectBuckets(ctx, s, want[:n/2]...)
}

func checkBucketsReplace(ctx context.Context, s store.Store) error {
	keys := bucketKeys(2)
	if err := putBuckets(ctx, s, keys, "old"); err != nil {
		return err
	}
	changed := store.Bucket{Key: keys[0], State: "new", ExpiresAt: 5}
	err := s.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Buckets(keys[:1]); err != nil {
			return err
		}
		return tx.PutBuckets([]store.Bucket{changed})
	})
	if err != nil {
		return err
	}
	return expectBuckets(ctx, s, changed, bucket(keys[1], "old1"))
}

func checkBucketsOwnWrites(ctx context.Context, s store.Store) error {
	keys := bucketKeys(2)
	err := s.Update(ctx, func(tx store.Tx) error {
		for _, says := range []string{"first", "second"} {
			if err := fill(tx, keys, says); err != nil {
				return err
			}
			if err := expectBucketsIn(tx, bucket(keys[1], says+"1"), bucket(keys[0], says+"0")); err != nil {
				return fmt.Errorf("in the unit that put them: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return expectBuckets(ctx, s, bucket(keys[0], "second0"), bucket(keys[1], "second1"))
}

// checkBucketsFailure has a unit fail that has put buckets and a session.
func checkBucketsFailure(ctx context.Context, s store.Store) error {
	keys := bucketKeys(2)
	if err := putBuckets(ctx, s, keys[:1], "old"); err != nil {
		return err
	}
	work := func(tx store.Tx) error { return errors.Join(fill(tx, keys, "new"), tx.PutSession(sample(1)), errOwn) }
	if err := s.Update(ctx, work); !errors.Is(err, errOwn) {
		return fmt.Errorf("Update returned %w, want the error of fn", orNone(err))
	}
	undone := func() error {
		return errors.Join(expectBuckets(ctx, s, bucket(keys[0], "old0"), store.Bucket{Key: keys[1]}), expectNone(ctx, s, sample(1)))
	}
	if err := undone(); err != nil {
		return fmt.Errorf("after an error: %w", err)
	}
	_, _ = recovered(func() error {
		return s.Update(ctx, func(tx store.Tx) error { panic(work(tx)) })
	})
	if err := undone(); err != nil {
		return fmt.Errorf("after a panic: %w", err)
	}
	return nil
}

func checkBucketsUnread(ctx context.Context, s store.Store) error {
	keys := bucketKeys(3)
	if err := putBuckets(ctx, s, keys[:2], "old"); err != nil {
		return err
	}
	for i, key := range keys[1:] {
		err := s.Update(ctx, func(tx store.Tx) error {
			if _, err := tx.Buckets(keys[:1]); err != nil {
				return err
			}
			return tx.PutBuckets([]store.Bucket{bucket(keys[0], "new"), bucket(key, "new")})
		})
		if err == nil {
			return fmt.Errorf("Update put bucket %d, which it had not read, and returned nil", i+1)
		}
	}
	return expectBuckets(ctx, s, bucket(keys[0], "old0"), bucket(keys[1], "old1"), store.Bucket{Key: keys[2]})
}

func checkBucketsReadOnly(ctx context.Context, s store.Store) error {
	keys := bucketKeys(2)
	if err := putBuckets(ctx, s, keys[:1], "old"); err != nil {
		return err
	}
	var put error
	err := s.View(ctx, func(tx store.Tx) error {
		_, err := tx.Buckets(keys)
		put = tx.PutBuckets([]store.Bucket{bucket(keys[0], "new"), bucket(keys[1], "new")})
		return err
	})
	if err != nil {
		return fmt.Errorf("a View that disregards the failure to put: %w", err)
	}
	if put == nil {
		return errors.New("PutBuckets inside View returned nil")
	}
	return expectBuckets(ctx, s, bucket(keys[0], "old0"), store.Bucket{Key: keys[1]})
}

// checkBucketsExpire has sessions and buckets expire together, in chunks.
func checkBucketsExpire(ctx context.Context, s store.Store) error {
	const now, sessions, buckets, limit = 1_700_000_000_000, 3, 9, 5
	keys := bucketKeys(buckets + 1)
	for i := range sessions {
		session := sample(i)
		session.ExpiresAt = now
		if err := put(ctx, s, session); err != nil {
			return err
		}
	}
	if err := putBuckets(ctx, s, keys, "old"); err != nil { // these expire now
		return err
	}
	keeps := store.Bucket{Key: keys[buckets], State: "keeps", ExpiresAt: now + 1}
	err := s.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Buckets(keys[buckets:]); err != nil {
			return err
		}
		return tx.PutBuckets([]store.Bucket{keeps})
	})
	if err != nil {
		return err
	}
	if n, err := s.DeleteExpired(ctx, time.UnixMilli(now-1), limit); err != nil || n != 0 {
		return fmt.Errorf("DeleteExpired before anything expires: %d, error %w", n, orNone(err))
	}
	for _, want := range []int{limit, limit, sessions + buckets - 2*limit, 0} {
		n, err := s.DeleteExpired(ctx, time.UnixMilli(now), limit)
		if err != nil || n != want {
			return fmt.Errorf("DeleteExpired of %d sessions and %d buckets, limit %d: %d, error %w; want %d", sessions, buckets, limit, n, orNone(err), want)
		}
	}
	gone := []store.Bucket{keeps}
	for _, key := range keys[:buckets] {
		gone = append(gone, store.Bucket{Key: key})
	}
	return errors.Join(expectBuckets(ctx, s, gone...), expectNone(ctx, s, sample(0)))
}

// countIn counts in the session and in each of the buckets.
func countIn(tx store.Tx, session store.Session, keys []store.Key) error {
	buckets, err := tx.Buckets(keys)
	if err != nil {
		return err
	}
	for i := range buckets {
		buckets[i].State += "x"
		buckets[i].ExpiresAt++
	}
	return errors.Join(increment(tx, session, false), tx.PutBuckets(buckets))
}

// counted checks that all have counted so many.
func counted(ctx context.Context, s store.Store, session store.Session, keys []store.Key, n int) error {
	want := make([]store.Bucket, len(keys))
	for i, key := range keys {
		want[i] = store.Bucket{Key: key, State: strings.Repeat("x", n), ExpiresAt: int64(n)}
	}
	session.Attempt = int64(n)
	return errors.Join(expectBuckets(ctx, s, want...), expect(ctx, s, session))
}

// checkConcurrentBuckets has all callers count in some of the same buckets, in
// whatever order they ask for them, and in a session.
func checkConcurrentBuckets(ctx context.Context, s store.Store) error {
	const each = 3
	keys := bucketKeys(9)
	session := sample(1)
	session.Attempt = 0
	if err := put(ctx, s, session); err != nil {
		return err
	}
	err := together(callers, func(i int) error {
		mine := slices.Clone(keys)
		slices.Reverse(mine[:i%len(mine)])
		for range each {
			if err := s.Update(ctx, func(tx store.Tx) error { return countIn(tx, session, mine) }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return counted(ctx, s, session, keys, callers*each)
}

// checkBucketCreation has all callers find the same buckets absent, and no
// session in which they would meet before.
func checkBucketCreation(ctx context.Context, s store.Store) error {
	const rounds = 5
	for round := range rounds {
		keys := []store.Key{store.BucketKey("a", fmt.Sprint(round)), store.BucketKey("b", fmt.Sprint(round))}
		err := together(callers, func(int) error {
			return s.Update(ctx, func(tx store.Tx) error {
				buckets, err := tx.Buckets(keys)
				if err != nil {
					return err
				}
				for i := range buckets {
					buckets[i].State += "x"
				}
				return tx.PutBuckets(buckets)
			})
		})
		if err != nil {
			return err
		}
		full := strings.Repeat("x", callers)
		if err := expectBuckets(ctx, s, store.Bucket{Key: keys[0], State: full}, store.Bucket{Key: keys[1], State: full}); err != nil {
			return err
		}
	}
	return nil
}

// checkBucketsConsistent has a writer fill buckets that must look alike to
// whoever reads them meanwhile.
func checkBucketsConsistent(ctx context.Context, s store.Store) error {
	const views = 40
	keys := bucketKeys(12)
	if err := putAlike(ctx, s, keys, 0); err != nil {
		return err
	}
	done := make(chan struct{})
	return together(2, func(i int) error {
		if i == 1 {
			defer close(done)
			for range views {
				if err := expectAlike(ctx, s, keys); err != nil {
					return err
				}
			}
			return nil
		}
		for n := 1; ; n++ {
			select {
			case <-done:
				return nil
			default:
			}
			if err := putAlike(ctx, s, keys, n); err != nil {
				return err
			}
		}
	})
}

func putAlike(ctx context.Context, s store.Store, keys []store.Key, n int) error {
	return s.Update(ctx, func(tx store.Tx) error {
		buckets, err := tx.Buckets(keys)
		for i := range buckets {
			buckets[i].State = fmt.Sprint(n)
		}
		return errors.Join(err, tx.PutBuckets(buckets))
	})
}

func expectAlike(ctx context.Context, s store.Store, keys []store.Key) error {
	return s.View(ctx, func(tx store.Tx) error {
		buckets, err := tx.Buckets(keys)
		for _, b := range buckets {
			if b.State != buckets[0].State {
				return fmt.Errorf("View saw %q and %q, which each Update leaves equal", buckets[0].State, b.State)
			}
		}
		return err
	})
}
