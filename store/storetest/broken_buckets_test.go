package storetest_test

import (
	"context"
	"slices"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// withBuckets is a store whose buckets can be spoiled on their way out and in.
func withBuckets(out func([]store.Bucket) []store.Bucket, in func(store.Tx, []store.Bucket) error) func() store.Store {
	return func() store.Store {
		return withTx(func(tx store.Tx) store.Tx {
			spoilt := &brokenTx{Tx: tx}
			if out != nil {
				spoilt.buckets = func(keys []store.Key) ([]store.Bucket, error) {
					buckets, err := tx.Buckets(keys)
					return out(buckets), err
				}
			}
			if in != nil {
				spoilt.putBuckets = func(buckets []store.Bucket) error { return in(tx, buckets) }
			}
			return spoilt
		})
	}
}

// losesBuckets says that it puts and does not.
func losesBuckets(store.Tx, []store.Bucket) error { return nil }

// truncatesStates keeps 255 bytes of each.
func truncatesStates(tx store.Tx, buckets []store.Bucket) error {
	cut := slices.Clone(buckets)
	for i := range cut {
		cut[i].State = cut[i].State[:min(len(cut[i].State), 255)]
	}
	return tx.PutBuckets(cut)
}

// keepsFirstStates replaces only the expiry of a bucket that is there.
func keepsFirstStates(tx store.Tx, buckets []store.Bucket) error {
	kept := slices.Clone(buckets)
	for i := range kept {
		old, err := tx.Buckets([]store.Key{kept[i].Key})
		if err != nil {
			return err
		}
		if old[0].State != "" {
			kept[i].State = old[0].State
		}
	}
	return tx.PutBuckets(kept)
}

// putsUnread puts also what the unit has not read.
func putsUnread(tx store.Tx, buckets []store.Bucket) error {
	for _, b := range buckets {
		if _, err := tx.Buckets([]store.Key{b.Key}); err != nil {
			return err
		}
	}
	return tx.PutBuckets(buckets)
}

// nameless returns absent buckets without their keys.
func nameless(buckets []store.Bucket) []store.Bucket {
	for i := range buckets {
		if buckets[i].State == "" {
			buckets[i].Key = store.Key{}
		}
	}
	return buckets
}

// sorted returns buckets in an order of its own.
func sorted(buckets []store.Bucket) []store.Bucket {
	slices.SortFunc(buckets, func(a, b store.Bucket) int { return slices.Compare(a.Key[:], b.Key[:]) })
	return buckets
}

// readsBucketsBehind does not see in a unit which buckets the unit has put.
func readsBucketsBehind() store.Store {
	s := memstore.New()
	return &broken{Store: s, update: func(ctx context.Context, fn func(store.Tx) error) error {
		return s.Update(ctx, func(tx store.Tx) error {
			var puts []store.Bucket
			err := fn(&brokenTx{Tx: tx, putBuckets: func(buckets []store.Bucket) error {
				puts = append(puts, buckets...)
				return nil
			}})
			if err != nil {
				return err
			}
			return tx.PutBuckets(puts)
		})
	}}
}

// Buckets reads each bucket at another time.
func (t *driftingTx) Buckets(keys []store.Key) ([]store.Bucket, error) {
	all := make([]store.Bucket, len(keys))
	for i, key := range keys {
		err := t.s.View(t.ctx, func(tx store.Tx) error {
			one, err := tx.Buckets([]store.Key{key})
			all[i] = one[0]
			return err
		})
		if err != nil {
			return nil, err
		}
		time.Sleep(100 * time.Microsecond)
	}
	return all, nil
}
