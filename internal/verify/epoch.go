package verify

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"

	"example.com/threepid/store"
)

// A number's epoch changes whenever the number is released or removed from an
// account. Each new token copies it into its session, and a session with another
// epoch than the number's is void: the person who received its SMS may no longer
// hold the number. Epochs are compared, never times.
//
// The epoch is a bucket of its own, so that it is there with limits off and
// Unblock leaves it alone. A number that was not released lately has none; its
// epoch is empty, as is that of sessions stored before there were epochs.

const epochSize = 16 // random bytes

func epochKey(msisdn string) store.Key { return store.BucketKey("epoch", msisdn) }

// loadEpoch reads the bucket whose State is the epoch of a number. A bucket that
// has expired still counts until it is deleted.
func loadEpoch(tx store.Tx, msisdn string) (store.Bucket, error) {
	buckets, err := tx.Buckets([]store.Key{epochKey(msisdn)})
	if err != nil {
		return store.Bucket{}, err
	}
	return buckets[0], nil
}

// keepEpoch has the epoch outlive a session that carries it: were it deleted
// first, the session would be void. An absent epoch needs no keeping.
func keepEpoch(tx store.Tx, epoch store.Bucket, s store.Session) error {
	if epoch.State == "" || epoch.ExpiresAt >= s.ExpiresAt {
		return nil
	}
	epoch.ExpiresAt = s.ExpiresAt + expiredRetention.Milliseconds()
	return tx.PutBuckets([]store.Bucket{epoch})
}

// pinEpoch is for a unit of work that gives a validation away. It writes the
// epoch unchanged, so that a release that commits after the unit read it, and
// before the unit commits, conflicts with the unit: reading locks no absent row.
func pinEpoch(tx store.Tx, epoch store.Bucket, s store.Session) error {
	epoch.ExpiresAt = max(epoch.ExpiresAt, s.ExpiresAt)
	return tx.PutBuckets([]store.Bucket{epoch})
}

// voidProofs gives the number a new epoch. It outlives every session of an older
// one: those are prolonged no more.
func (s *Service) voidProofs(ctx context.Context, msisdn string) error {
	random := make([]byte, epochSize)
	if _, err := io.ReadFull(s.Random, random); err != nil {
		return fmt.Errorf("threepid: read randomness: %w", err)
	}
	return s.Store.Update(ctx, func(tx store.Tx) error {
		epoch, err := loadEpoch(tx, msisdn)
		if err != nil {
			return err
		}
		epoch.State = hex.EncodeToString(random)
		epoch.ExpiresAt = max(epoch.ExpiresAt, s.now()+(s.lifetimes.session+expiredRetention).Milliseconds())
		return tx.PutBuckets([]store.Bucket{epoch})
	})
}
