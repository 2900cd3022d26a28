package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"example.com/threepid/store"
)

// sessionChecks are about one session and its fields.
func sessionChecks() []storeCheck {
	return []storeCheck{
		{"RoundTrip", checkRoundTrip},
		{"RoundTripOfLongestValues", checkLongest},
		{"RoundTripOfZeroValues", checkZero},
		{"NotFound", checkNotFound},
		{"Replace", checkReplace},
		{"ReplaceSID", checkReplaceSID},
		{"PutTwiceInOneUnit", checkPutTwice},
		{"UnreadIsNotReplaced", checkUnread},
		{"SIDIsUnique", checkSIDUnique},
		{"SIDIsComparedByteByByte", checkSIDBytes},
		{"SessionsAreCopies", checkCopies},
	}
}

func checkRoundTrip(ctx context.Context, s store.Store) error {
	first, second := sample(1), sample(2)
	if err := put(ctx, s, first, second); err != nil {
		return err
	}
	return errors.Join(expect(ctx, s, first), expect(ctx, s, second))
}

func checkLongest(ctx context.Context, s store.Store) error {
	longest := sample(1)
	longest.SID = strings.Repeat("s", 255)
	longest.Client = strings.Repeat("c", 64)
	longest.Handle, longest.Proof = strings.Repeat("h", 255), strings.Repeat("f", 64)
	longest.MSISDN = strings.Repeat("9", 20)
	// Two, three and four bytes a character, and what SQL and URLs read into it.
	longest.NextLink = "https://example.com/é/中/🙂/'\";--\\%_?#&" // 45 bytes
	longest.NextLink += strings.Repeat("🙂", (2048-len(longest.NextLink))/4)
	longest.Attempt, longest.ClaimAttempt = 1<<53, 1<<63-1
	if err := put(ctx, s, longest); err != nil {
		return err
	}
	return expect(ctx, s, longest)
}

func checkZero(ctx context.Context, s store.Store) error {
	zero := store.Session{Key: keyOf(1), SID: "0", MSISDN: "1", Attempt: -1}
	if err := put(ctx, s, zero); err != nil {
		return err
	}
	return expect(ctx, s, zero)
}

func checkNotFound(ctx context.Context, s store.Store) error {
	if err := expectNone(ctx, s, sample(1)); err != nil {
		return fmt.Errorf("empty store, in View: %w", err)
	}
	err := s.Update(ctx, func(tx store.Tx) error {
		_, byKey := tx.SessionByKey(keyOf(1))
		_, bySID := tx.SessionBySID(sample(1).SID)
		return errors.Join(expectNotFound("SessionByKey", byKey), expectNotFound("SessionBySID", bySID))
	})
	if err != nil {
		return fmt.Errorf("empty store, in Update: %w", err)
	}
	if err := put(ctx, s, sample(1)); err != nil {
		return err
	}
	return expectNone(ctx, s, sample(2))
}

func checkReplace(ctx context.Context, s store.Store) error {
	other := sample(3)
	if err := put(ctx, s, sample(1), other); err != nil {
		return err
	}
	// Everything changes but key and sid, also to zero.
	byKey := sample(2)
	byKey.Key, byKey.SID = sample(1).Key, sample(1).SID
	byKey.Country, byKey.NextLink, byKey.ValidatedAt, byKey.Attempt = "", "", 0, 9
	if err := change(ctx, s, byKey.Key, func(session *store.Session) { *session = byKey }); err != nil {
		return err
	}
	if err := expect(ctx, s, byKey); err != nil {
		return err
	}
	// The same again with the expiry as it was: a store may write that apart.
	expiresAt := byKey.ExpiresAt
	byKey = sample(4)
	byKey.Key, byKey.SID, byKey.ExpiresAt = sample(1).Key, sample(1).SID, expiresAt
	if err := change(ctx, s, byKey.Key, func(session *store.Session) { *session = byKey }); err != nil {
		return err
	}
	if err := expect(ctx, s, byKey); err != nil {
		return err
	}
	// A session that was read by its sid is known by its key as well.
	bySID := byKey
	bySID.WrongTries++
	bySID.ExpiresAt++
	err := s.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.SessionBySID(bySID.SID); err != nil {
			return err
		}
		return tx.PutSession(bySID)
	})
	if err != nil {
		return fmt.Errorf("replace a session that was read by sid: %w", err)
	}
	return errors.Join(expect(ctx, s, bySID), expect(ctx, s, other))
}

func checkReplaceSID(ctx context.Context, s store.Store) error {
	old := sample(1)
	if err := put(ctx, s, old); err != nil {
		return err
	}
	renamed := old
	renamed.SID = "another"
	if err := change(ctx, s, old.Key, func(session *store.Session) { session.SID = renamed.SID }); err != nil {
		return err
	}
	if err := errors.Join(expect(ctx, s, renamed), expectNoSID(ctx, s, old.SID)); err != nil {
		return err
	}
	heir := sample(2)
	heir.SID = old.SID // free again
	if err := put(ctx, s, heir); err != nil {
		return err
	}
	return errors.Join(expect(ctx, s, heir), expect(ctx, s, renamed))
}

func checkPutTwice(ctx context.Context, s store.Store) error {
	first, last := sample(1), sample(2)
	last.Key = first.Key
	if err := put(ctx, s, first, last); err != nil {
		return err
	}
	return errors.Join(expect(ctx, s, last), expectNoSID(ctx, s, first.SID))
}

// checkUnread puts a session as new that is there already.
func checkUnread(ctx context.Context, s store.Store) error {
	first, second := sample(1), sample(2)
	second.Key = first.Key
	if err := put(ctx, s, first); err != nil {
		return err
	}
	if err := put(ctx, s, second); err == nil {
		return errors.New("Update replaced a session that it had not read and returned nil")
	}
	return errors.Join(expect(ctx, s, first), expectNoSID(ctx, s, second.SID))
}

func checkSIDUnique(ctx context.Context, s store.Store) error {
	first, second, clash := sample(1), sample(2), sample(3)
	clash.SID = first.SID
	if err := put(ctx, s, first, second); err != nil {
		return err
	}
	if err := put(ctx, s, clash); err == nil {
		return errors.New("Update put a new session with the sid of another and returned nil")
	}
	err := change(ctx, s, second.Key, func(session *store.Session) { session.SID = first.SID })
	if err == nil {
		return errors.New("Update gave a session the sid of another and returned nil")
	}
	return errors.Join(expect(ctx, s, first), expect(ctx, s, second), expectNoKey(ctx, s, clash.Key))
}

func checkSIDBytes(ctx context.Context, s store.Store) error {
	lower, upper := sample(1), sample(2)
	lower.SID, upper.SID = "case-a", "CASE-A"
	if err := put(ctx, s, lower); err != nil {
		return err
	}
	if err := expectNoSID(ctx, s, upper.SID); err != nil {
		return err
	}
	if err := put(ctx, s, upper); err != nil {
		return err
	}
	return errors.Join(expect(ctx, s, lower), expect(ctx, s, upper))
}

// checkCopies spoils the bytes of each session that goes in or comes out.
func checkCopies(ctx context.Context, s store.Store) error {
	want, given := sample(1), sample(1)
	err := s.Update(ctx, func(tx store.Tx) error {
		given = sample(1)
		if err := tx.PutSession(given); err != nil {
			return err
		}
		spoil(given)
		got, err := tx.SessionByKey(want.Key)
		spoil(got)
		return errors.Join(err, expectIn(tx, want))
	})
	if err != nil {
		return fmt.Errorf("in Update: %w", err)
	}
	spoil(given)
	for range 2 {
		var got store.Session
		err := s.View(ctx, func(tx store.Tx) (err error) {
			got, err = tx.SessionByKey(want.Key)
			return err
		})
		if err != nil {
			return err
		}
		spoil(got)
		if err := expect(ctx, s, want); err != nil {
			return err
		}
	}
	return nil
}

func spoil(s store.Session) {
	for i := range s.Nonce {
		s.Nonce[i]++
	}
}
