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
// The epoch is a record of its own, so that it exists with limits off, and Unblock does not
// change it. A number that was not released lately has no record; its epoch is empty, as in
// sessions of releases without epochs. An expired epoch record counts until it is deleted.
//
// Every unit of work that returns a validation names the epoch record, so that it conflicts
// with a release that commits at the same time.

const epochSize = 16 // random bytes

func epochKey(msisdn string) store.Key { return store.RecordKey("epoch", msisdn) }

// withEpoch names the epoch of a number, as the first record, and further records.
func withEpoch(ref store.SessionRef, msisdn string, records ...store.Key) store.Names {
	return store.Names{Session: ref, Records: append([]store.Key{epochKey(msisdn)}, records...)}
}

// keepEpoch extends the life of the epoch beyond that of a session that carries it. If the
// epoch were deleted first, the session would be void.
func keepEpoch(epoch *store.Record, s store.Session) {
	if epoch.State != "" && epoch.ExpiresAt < s.ExpiresAt {
		epoch.ExpiresAt = s.ExpiresAt + expiredRetention.Milliseconds()
	}
}

// voidProofs gives the number a new epoch. It outlives every session with an older one,
// because those are not prolonged any more.
func (s *Service) voidProofs(ctx context.Context, msisdn string) error {
	random := make([]byte, epochSize)
	if _, err := io.ReadFull(s.Random, random); err != nil {
		return fmt.Errorf("threepid: read randomness: %w", err)
	}
	return s.units.Update(ctx, withEpoch(store.SessionRef{}, msisdn), func(rows *store.Rows) error {
		epoch := &rows.Records[0]
		epoch.State = hex.EncodeToString(random)
		epoch.ExpiresAt = max(epoch.ExpiresAt, s.now()+(s.lifetimes.session+expiredRetention).Milliseconds())
		return nil
	})
}
