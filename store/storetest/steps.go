package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"example.com/threepid/store"
)

// errOwn is the error that units of the checks return.
var errOwn = errors.New("storetest: the unit's own error")

// keyOf returns the nth key.
func keyOf(n int) store.Key {
	return store.SessionKey(fmt.Sprintf("secret%d", n), "GB", "447400123456")
}

// sample returns the nth session. No two sessions share a key or a sid, and no two fields have the
// same value.
func sample(n int) store.Session {
	base := int64(1_700_000_000_000) + int64(n)*1000
	return store.Session{
		Key: keyOf(n), SID: fmt.Sprintf("sid.%d_=-", n), MSISDN: "447400123456", Country: "GB",
		Purpose: store.PurposeRegister, NextLink: "https://example.com/next?a=b&c=%20#d",
		Attempt: 7, AttemptPurpose: store.PurposeAdd, ClaimID: fmt.Sprintf("claim%d", n), ClaimAttempt: 8, LeaseUntil: base + 1, Outcome: store.OutcomeFailed,
		Nonce: bytes.Repeat(fmt.Appendf(nil, "\x00\xff'%05d", n), 4), TokenExpiresAt: base + 2, WrongTries: 3,
		Decoy: true, Texts: 4, Client: fmt.Sprintf("client%d", n), ClientTexts: 2, DelegateID: fmt.Sprintf("VE%d", n), AcceptedTokenDigest: strings.Repeat("5", 63) + strconv.Itoa(n%10),
		Provider: fmt.Sprintf("provider%d", n),
		Epoch:    strings.Repeat("e", 63) + strconv.Itoa(n%10), KeyID: strings.Repeat("k", 63) + strconv.Itoa(n%10),
		ValidatedAt: base + 4, RedeemedAt: base + 5, CreatedAt: base + 6, ExpiresAt: base + 7,
	}
}

func byKey(key store.Key, records ...store.Key) store.Names {
	return store.Names{Session: store.SessionRef{Key: key}, Records: records}
}

func bySID(sid string, records ...store.Key) store.Names {
	return store.Names{Session: store.SessionRef{SID: sid}, Records: records}
}

// put creates or replaces sessions.
func put(ctx context.Context, s store.Store, sessions ...store.Session) error {
	for i := range sessions {
		if err := change(ctx, s, sessions[i].Key, func(session *store.Session) { *session = sessions[i] }); err != nil {
			return err
		}
	}
	return nil
}

// change runs a unit of work that changes the session with the key.
func change(ctx context.Context, s store.Store, key store.Key, edit func(*store.Session)) error {
	err := s.Update(ctx, byKey(key), func(rows *store.Rows) error {
		edit(&rows.Session)
		return nil
	})
	if err != nil {
		return fmt.Errorf("change a session: %w", err)
	}
	return nil
}

// expect checks that View and Update find want, by key and by sid.
func expect(ctx context.Context, s store.Store, want store.Session) error {
	for how, names := range map[string]store.Names{"by key": byKey(want.Key), "by sid": bySID(want.SID)} {
		rows, err := s.View(ctx, names)
		if err != nil {
			return fmt.Errorf("View %s: %w", how, err)
		}
		if err := compare("View "+how, rows.Session, want); err != nil {
			return err
		}
		err = s.Update(ctx, names, func(rows *store.Rows) error { return compare("Update "+how, rows.Session, want) })
		if err != nil {
			return err
		}
	}
	return nil
}

// compare returns the names of the fields that differ. An absent nonce may be nil or empty.
func compare(method string, got, want store.Session) error {
	var errs []error
	field := func(name string, got, want any) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s: %s is %.80q, want %.80q", method, name, fmt.Sprint(got), fmt.Sprint(want)))
		}
	}
	field("Key", got.Key, want.Key)
	field("SID", got.SID, want.SID)
	field("MSISDN", got.MSISDN, want.MSISDN)
	field("Country", got.Country, want.Country)
	field("Purpose", got.Purpose, want.Purpose)
	field("NextLink", got.NextLink, want.NextLink)
	field("Attempt", got.Attempt, want.Attempt)
	field("ClaimID", got.ClaimID, want.ClaimID)
	field("ClaimAttempt", got.ClaimAttempt, want.ClaimAttempt)
	field("LeaseUntil", got.LeaseUntil, want.LeaseUntil)
	field("Outcome", got.Outcome, want.Outcome)
	field("Nonce", string(got.Nonce), string(want.Nonce))
	field("TokenExpiresAt", got.TokenExpiresAt, want.TokenExpiresAt)
	field("WrongTries", got.WrongTries, want.WrongTries)
	field("Decoy", got.Decoy, want.Decoy)
	field("Texts", got.Texts, want.Texts)
	field("Client", got.Client, want.Client)
	field("ClientTexts", got.ClientTexts, want.ClientTexts)
	field("DelegateID", got.DelegateID, want.DelegateID)
	field("AcceptedTokenDigest", got.AcceptedTokenDigest, want.AcceptedTokenDigest)
	field("Epoch", got.Epoch, want.Epoch)
	field("KeyID", got.KeyID, want.KeyID)
	field("AttemptPurpose", got.AttemptPurpose, want.AttemptPurpose)
	field("ValidatedAt", got.ValidatedAt, want.ValidatedAt)
	field("RedeemedAt", got.RedeemedAt, want.RedeemedAt)
	field("CreatedAt", got.CreatedAt, want.CreatedAt)
	field("ExpiresAt", got.ExpiresAt, want.ExpiresAt)
	return errors.Join(errs...)
}

// expectNone checks that neither the key nor the sid of a session is found.
func expectNone(ctx context.Context, s store.Store, gone store.Session) error {
	return errors.Join(expectNoKey(ctx, s, gone.Key), expectNoSID(ctx, s, gone.SID))
}

func expectNoKey(ctx context.Context, s store.Store, key store.Key) error {
	return expectAbsent(ctx, s, "by key", byKey(key))
}

func expectNoSID(ctx context.Context, s store.Store, sid string) error {
	return expectAbsent(ctx, s, fmt.Sprintf("by the sid %.40q", sid), bySID(sid))
}

func expectAbsent(ctx context.Context, s store.Store, how string, names store.Names) error {
	rows, err := s.View(ctx, names)
	if err == nil {
		err = compare("View "+how+" of an absent session", rows.Session, store.Session{})
	}
	if err != nil {
		return err
	}
	return s.Update(ctx, names, func(rows *store.Rows) error {
		return compare("Update "+how+" of an absent session", rows.Session, store.Session{})
	})
}

func expectNotFound(method string, err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%s: got error %w, want ErrNotFound", method, orNone(err))
	}
	return nil
}

// errNone represents the absence of an error in messages.
var errNone = errors.New("none")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}
