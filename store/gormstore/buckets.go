package gormstore

import (
	"bytes"
	"errors"
	"slices"

	"example.com/threepid/store"
)

var errUnread = errors.New("gormstore: put buckets: this unit has not read one of them")

// Buckets implements [store.Tx]. They are read, and locked, in the order of
// their keys: units that want the same ones wait for each other and do not meet
// in a deadlock.
func (t *tx) Buckets(keys []store.Key) ([]store.Bucket, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if err := t.unit.needsTransaction(); err != nil {
		return nil, err
	}
	if t.inHostTx {
		if err := t.createBuckets(keys); err != nil {
			return nil, err
		}
	}
	q := lockBuckets
	if t.readOnly {
		q = findBuckets
	}
	found := make(map[store.Key]store.Bucket, len(keys))
	sorted := slices.SortedFunc(slices.Values(keys), func(a, b store.Key) int { return bytes.Compare(a[:], b[:]) })
	for chunk := range slices.Chunk(sorted, bucketsAtOnce) {
		args := make([]any, bucketsAtOnce)
		for i := range args {
			args[i] = chunk[min(i, len(chunk)-1)][:] // a short one is filled up with its last
		}
		err := t.unit.each("read buckets", func(row scanner) error {
			b, err := scanBucket(row)
			found[b.Key] = b
			return err
		}, q, args...)
		if err != nil {
			return nil, err
		}
	}
	return t.meet(keys, found), nil
}

// meet returns the buckets in the order of the keys, and notes which are there.
func (t *tx) meet(keys []store.Key, found map[store.Key]store.Bucket) []store.Bucket {
	if t.buckets == nil {
		t.buckets = make(map[store.Key]bool, len(keys))
	}
	buckets := make([]store.Bucket, len(keys))
	for i, key := range keys {
		b, there := found[key]
		b.Key = key
		buckets[i], t.buckets[key] = b, there
	}
	return buckets
}

// PutBuckets implements [store.Tx].
//
// Those that this unit found absent are inserted. If another unit was quicker,
// that fails as a duplicate, as for sessions, and all of the unit is run again.
func (t *tx) PutBuckets(buckets []store.Bucket) error {
	if t.readOnly {
		return errReadOnly
	}
	var absent, there []store.Bucket
	for _, b := range buckets {
		isThere, read := t.buckets[b.Key]
		switch {
		case !read:
			return t.unit.refuse(errUnread)
		case isThere:
			there = append(there, b)
		default:
			absent = append(absent, b)
		}
	}
	if err := t.putRows(insertBuckets, absent); err != nil {
		return err
	}
	return t.putRows(upsertBuckets, there)
}

// putRows runs a statement of as many rows as there are buckets.
func (t *tx) putRows(one query, buckets []store.Bucket) error {
	for chunk := range slices.Chunk(buckets, bucketsAtOnce) {
		var values []any
		for i := range chunk {
			values = append(values, chunk[i].Key[:], chunk[i].State, chunk[i].ExpiresAt)
		}
		if err := t.unit.exec("put buckets", one+query(len(chunk)-1), values...); err != nil {
			return err
		}
		for i := range chunk {
			t.buckets[chunk[i].Key] = true
		}
	}
	return nil
}
