package main

import (
	"errors"

	"example.com/threepid/store"
)

// errNoBuckets is what the yardsticks answer: they are measured without limits.
var errNoBuckets = errors.New("this store keeps no buckets: switch limits and guard off")

func (*byHandTx) Buckets([]store.Key) ([]store.Bucket, error) { return nil, errNoBuckets }
func (*byHandTx) PutBuckets([]store.Bucket) error             { return errNoBuckets }

func (defaultsTx) Buckets([]store.Key) ([]store.Bucket, error) { return nil, errNoBuckets }
func (defaultsTx) PutBuckets([]store.Bucket) error             { return errNoBuckets }
