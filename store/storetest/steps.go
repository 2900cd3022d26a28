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

// errOwn is what the checks' own units of work return.
var errOwn = errors.New("storetest: the unit's own error")

// keyOf returns the nth key.
func keyOf(n int) store.Key {
	return store.SessionKey(fmt.Sprintf("secret%d", n), "GB", "447400123456")
}

// sample returns the nth session: no two share a key or a sid, and no two
// fields of it share a value.
func sample(n int) store.Session {
	base := int64(1_700_000_000_000) + int64(n)*1000
	return store.Session{
		Key: keyOf(n), SID: fmt.Sprintf("sid.%d_=-", n), MSISDN: "447400123456", Country: "GB",
		Purpose: store.PurposeRegister, NextLink: "https://example.com/next?a=b&c=%20#d",
		Attempt: 7, AttemptPurpose: store.PurposeAdd, ClaimID: fmt.Sprintf("claim%d", n), ClaimAttempt: 8, LeaseUntil: base + 1, Outcome: store.OutcomeFailed,
		Nonce: bytes.Repeat(fmt.Appendf(nil, "\x00\xff'%05d", n), 4), TokenExpiresAt: base + 2, WrongTries: 3,
		Decoy: true, Texts: 4, Client: fmt.Sprintf("client%d", n), ClientTexts: 2, Handle: fmt.Sprintf("VE%d", n), Proof: strings.Repeat("5", 63) + strconv.Itoa(n%10),
		Epoch: strings.Repeat("e", 63) + strconv.Itoa(n%10), KeyID: strings.Repeat("k", 63) + strconv.Itoa(n%10),
		ValidatedAt: base + 4, RedeemedAt: base + 5, CreatedAt: base + 6, ExpiresAt: base + 7,
	}
}

func put(ctx context.Context, s store.Store, sessions ...store.Session) error {
	err := s.Update(ctx, func(tx store.Tx) error {
		for i := range sessions {
			if err := tx.PutSession(sessions[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put sessions: %w", err)
	}
	return nil
}

// change reads the session with the key in an Update and puts what edit made of it.
func change(ctx context.Context, s store.Store, key store.Key, edit func(*store.Session)) error {
	err := s.Update(ctx, func(tx store.Tx) error {
		session, err := tx.SessionByKey(key)
		if err != nil {
			return err
		}
		edit(&session)
		return tx.PutSession(session)
	})
	if err != nil {
		return fmt.Errorf("change a session: %w", err)
	}
	return nil
}

// expect checks that a View finds want, by key and by sid.
func expect(ctx context.Context, s store.Store, want store.Session) error {
	err := s.View(ctx, func(tx store.Tx) error { return expectIn(tx, want) })
	if err != nil {
		return fmt.Errorf("in View: %w", err)
	}
	return nil
}

func expectIn(tx store.Tx, want store.Session) error {
	byKey, err := tx.SessionByKey(want.Key)
	if err != nil {
		return fmt.Errorf("SessionByKey: %w", err)
	}
	bySID, err := tx.SessionBySID(want.SID)
	if err != nil {
		return fmt.Errorf("SessionBySID(%.40q): %w", want.SID, err)
	}
	return errors.Join(compare("SessionByKey", byKey, want), compare("SessionBySID", bySID, want))
}

// compare names the fields that differ. An absent nonce may be nil or empty.
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
	field("Handle", got.Handle, want.Handle)
	field("Proof", got.Proof, want.Proof)
	field("Epoch", got.Epoch, want.Epoch)
	field("KeyID", got.KeyID, want.KeyID)
	field("AttemptPurpose", got.AttemptPurpose, want.AttemptPurpose)
	field("ValidatedAt", got.ValidatedAt, want.ValidatedAt)
	field("RedeemedAt", got.RedeemedAt, want.RedeemedAt)
	field("CreatedAt", got.CreatedAt, want.CreatedAt)
	field("ExpiresAt", got.ExpiresAt, want.ExpiresAt)
	return errors.Join(errs...)
}

// expectNone checks that neither the key nor the sid of s is found.
func expectNone(ctx context.Context, s store.Store, gone store.Session) error {
	return errors.Join(expectNoKey(ctx, s, gone.Key), expectNoSID(ctx, s, gone.SID))
}

func expectNoKey(ctx context.Context, s store.Store, key store.Key) error {
	return expectNotFound("SessionByKey", s.View(ctx, func(tx store.Tx) error {
		_, err := tx.SessionByKey(key)
		return err
	}))
}

func expectNoSID(ctx context.Context, s store.Store, sid string) error {
	return expectNotFound(fmt.Sprintf("SessionBySID(%.40q)", sid), s.View(ctx, func(tx store.Tx) error {
		_, err := tx.SessionBySID(sid)
		return err
	}))
}

func expectNotFound(method string, err error) error {
	if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%s: got error %w, want ErrNotFound", method, orNone(err))
	}
	return nil
}

// errNone stands for the absence of an error in messages.
var errNone = errors.New("none")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}
