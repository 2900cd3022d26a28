package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"example.com/threepid/store"
)

// sessionChecks check a session and its fields.
func sessionChecks() []storeCheck {
	return []storeCheck{
		{"RoundTrip", checkRoundTrip},
		{"RoundTripOfLongestValues", checkLongest},
		{"RoundTripOfZeroValues", checkZero},
		{"AbsentSession", checkAbsent},
		{"Replace", checkReplace},
		{"ReplaceSID", checkReplaceSID},
		{"SIDIsUnique", checkSIDUnique},
		{"SIDIsComparedByteByByte", checkSIDBytes},
		{"SessionsAreCopies", checkCopies},
		{"UnstorableIsRefused", checkUnstorable},
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
	longest.DelegateID, longest.AcceptedTokenDigest = strings.Repeat("h", 255), strings.Repeat("f", 64)
	longest.MSISDN = strings.Repeat("9", 20)
	// Characters of two, three and four bytes, and characters with a meaning in SQL, JSON and URLs.
	longest.NextLink = "https://example.com/é/中/🙂/'\";--\\%_?#&<>" // 47 bytes
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

func checkAbsent(ctx context.Context, s store.Store) error {
	if err := expectNone(ctx, s, sample(1)); err != nil {
		return fmt.Errorf("empty store: %w", err)
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
	// All fields except key and sid change, also to zero.
	one := sample(2)
	one.Key, one.SID = sample(1).Key, sample(1).SID
	one.Country, one.NextLink, one.ValidatedAt, one.Attempt, one.Decoy, one.Nonce = "", "", 0, 9, false, nil
	if err := put(ctx, s, one); err != nil {
		return err
	}
	if err := expect(ctx, s, one); err != nil {
		return err
	}
	// The same again by sid, with an unchanged expiry: a store may write that separately.
	again := sample(4)
	again.Key, again.SID, again.ExpiresAt = one.Key, one.SID, one.ExpiresAt
	err := s.Update(ctx, bySID(one.SID), func(rows *store.Rows) error {
		rows.Session = again
		return nil
	})
	if err != nil {
		return fmt.Errorf("replace a session that was named by its sid: %w", err)
	}
	return errors.Join(expect(ctx, s, again), expect(ctx, s, other))
}

func checkReplaceSID(ctx context.Context, s store.Store) error {
	old := sample(1)
	if err := put(ctx, s, old); err != nil {
		return err
	}
	renamed := old
	renamed.SID = "another"
	if err := put(ctx, s, renamed); err != nil {
		return err
	}
	if err := errors.Join(expect(ctx, s, renamed), expectNoSID(ctx, s, old.SID)); err != nil {
		return err
	}
	heir := sample(2)
	heir.SID = old.SID // the sid is free again
	if err := put(ctx, s, heir); err != nil {
		return err
	}
	return errors.Join(expect(ctx, s, heir), expect(ctx, s, renamed))
}

func checkSIDUnique(ctx context.Context, s store.Store) error {
	first, second, clash := sample(1), sample(2), sample(3)
	clash.SID = first.SID
	if err := put(ctx, s, first, second); err != nil {
		return err
	}
	if err := put(ctx, s, clash); err == nil {
		return errors.New("Update created a session with the sid of another and returned nil")
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
	// A string that is no valid sid names no session.
	for _, sid := range []string{"case-a ", "case-a\x00", "case-\xff", "~", strings.Repeat("x", 5000), "'"} {
		if err := expectNoSID(ctx, s, sid); err != nil {
			return err
		}
	}
	return errors.Join(expect(ctx, s, lower), expect(ctx, s, upper))
}

// checkCopies overwrites the bytes of sessions after they were passed in or returned.
func checkCopies(ctx context.Context, s store.Store) error {
	want, given := sample(1), sample(1)
	if err := put(ctx, s, given); err != nil {
		return err
	}
	spoil(given)
	for range 2 {
		rows, err := s.View(ctx, byKey(want.Key))
		if err != nil {
			return err
		}
		spoil(rows.Session)
		err = s.Update(ctx, byKey(want.Key), func(rows *store.Rows) error {
			spoil(rows.Session)
			return errOwn
		})
		if !errors.Is(err, errOwn) {
			return fmt.Errorf("Update returned %w, want the error of change", orNone(err))
		}
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

// checkUnstorable tries values that are longer than the contract allows, or that a database might
// refuse or truncate.
func checkUnstorable(ctx context.Context, s store.Store) error {
	key := store.RecordKey("scope", "unstorable")
	if err := put(ctx, s, sample(1)); err != nil {
		return err
	}
	for what, spoilt := range map[string]func(*store.Rows){
		"a sid with a space":    func(r *store.Rows) { r.Session.SID = "a b" },
		"a sid of 256 bytes":    func(r *store.Rows) { r.Session.SID = strings.Repeat("s", 256) },
		"a removed session":     func(r *store.Rows) { r.Session = store.Session{} },
		"another key":           func(r *store.Rows) { r.Session.Key = keyOf(9) },
		"a client of 65 bytes":  func(r *store.Rows) { r.Session.Client = strings.Repeat("c", 65) },
		"a nonce of 33 bytes":   func(r *store.Rows) { r.Session.Nonce = make([]byte, 33) },
		"NUL":                   func(r *store.Rows) { r.Session.NextLink = "a\x00b" },
		"a state of 2001 bytes": func(r *store.Rows) { r.Records[0].State = strings.Repeat("x", 2001) },
		"no UTF-8":              func(r *store.Rows) { r.Records[0].State = "\xff" },
		"another record":        func(r *store.Rows) { r.Records[0].Key = keyOf(9) },
		"no record":             func(r *store.Rows) { r.Records = nil },
	} {
		err := s.Update(ctx, byKey(keyOf(1), key), func(rows *store.Rows) error {
			rows.Session.Attempt, rows.Records[0].ExpiresAt = 99, 99
			spoilt(rows)
			return nil
		})
		if err == nil {
			return fmt.Errorf("Update stored %s and returned nil", what)
		}
	}
	err := s.Update(ctx, bySID("absent"), func(rows *store.Rows) error {
		rows.Session = sample(2)
		rows.Session.SID = "absent"
		return nil
	})
	if err == nil {
		return errors.New("Update created a session that was named by its sid, and returned nil")
	}
	return errors.Join(expect(ctx, s, sample(1)), expectNone(ctx, s, sample(2)), expectRecords(ctx, s, store.Record{Key: key}))
}
