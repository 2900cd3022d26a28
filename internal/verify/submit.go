package verify

import (
	"context"
	"errors"

	"example.com/threepid/store"
)

// Validation is a number that its holder has proved to hold.
type Validation struct {
	SID    string
	MSISDN string // E.164 without the plus sign

	// Country is what the client said it dialled from; it may be empty.
	Country string

	// Purpose is what the text message said the code was for.
	Purpose store.Purpose

	// ValidatedAt is in Unix milliseconds.
	ValidatedAt int64
}

// Submit takes a token. When it is right the session counts as validated, and
// the next_link of the session is returned, which may be empty.
func (s *Service) Submit(ctx context.Context, sub Submission) (nextLink string, err error) {
	if err := s.enter(); err != nil {
		return "", err
	}
	defer s.active.Done()

	// Most refusals, and the right token said again, need no write: those are
	// answered from a read, so that guesses at sids never take the write lock.
	sess, changed, verdict, err := s.preview(ctx, sub)
	if err != nil {
		return "", err
	}
	if !changed {
		return sess.NextLink, verdict
	}
	ctx, cancel := detached(ctx, storeTimeout)
	defer cancel()
	before := sess
	err = s.Store.Update(ctx, func(tx store.Tx) error {
		var err error
		before, sess, changed, verdict, err = s.judge(tx, sub)
		if err != nil || !changed {
			return err
		}
		return tx.PutSession(sess)
	})
	if err != nil {
		return "", err
	}
	if verdict == nil && before.ValidatedAt == 0 {
		s.Logger.Info("threepid: number validated", "sid", sess.SID, "number", Mask(sess.MSISDN))
	}
	return sess.NextLink, verdict
}

// preview judges a submission without writing.
func (s *Service) preview(ctx context.Context, sub Submission) (after store.Session, changed bool, verdict, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	err = s.Store.View(ctx, func(tx store.Tx) error {
		var err error
		_, after, changed, verdict, err = s.judge(tx, sub)
		return err
	})
	return after, changed, verdict, err
}

// judge loads the session of a submission and judges the token. The verdict is
// for the client, err says that the store failed.
func (s *Service) judge(tx store.Tx, sub Submission) (before, after store.Session, changed bool, verdict, err error) {
	before, err = s.find(tx, sub.SID, sub.ClientSecret)
	if errors.Is(err, ErrNoSession) {
		return before, before, false, errUnknownSession(), nil
	}
	if err != nil {
		return before, before, false, nil, err
	}
	right := sameToken(sub.Token, token(before, sub.ClientSecret, s.TokenDigits))
	after, changed, verdict = judged(before, right, s.lifetimes, s.now())
	return before, after, changed, verdict, nil
}

// Validated looks a validated session up. The error is ErrNoSession,
// ErrNotValidated or ErrExpired, or says that the store failed.
func (s *Service) Validated(ctx context.Context, sid, clientSecret string) (Validation, error) {
	return s.validated(ctx, s.Store.View, sid, clientSecret, func(store.Tx, store.Session) error { return nil })
}

// Redeem is Validated that succeeds once: of many calls at once, on one node or
// on several, one gets the validation and the others ErrNoSession.
func (s *Service) Redeem(ctx context.Context, sid, clientSecret string) (Validation, error) {
	return s.validated(ctx, s.Store.Update, sid, clientSecret, func(tx store.Tx, sess store.Session) error {
		sess.RedeemedAt = s.now()
		return tx.PutSession(sess)
	})
}

// validated finds a validated session in a unit of work, and does more with it
// in the same.
func (s *Service) validated(
	ctx context.Context, unit func(context.Context, func(store.Tx) error) error, sid, clientSecret string,
	more func(store.Tx, store.Session) error,
) (Validation, error) {
	if err := s.enter(); err != nil {
		return Validation{}, err
	}
	defer s.active.Done()
	ctx, cancel := bounded(ctx)
	defer cancel()
	var v Validation
	err := unit(ctx, func(tx store.Tx) error {
		sess, err := s.find(tx, sid, clientSecret)
		if err != nil {
			return err
		}
		if err := validity(sess, s.now()); err != nil {
			return err
		}
		v = validation(sess)
		return more(tx, sess)
	})
	if err != nil {
		return Validation{}, err
	}
	return v, nil
}

// find loads the session with that sid if clientSecret is its own, else
// ErrNoSession.
func (s *Service) find(tx store.Tx, sid, clientSecret string) (store.Session, error) {
	if !isOpaque(sid) || !isOpaque(clientSecret) {
		return store.Session{}, ErrNoSession
	}
	sess, err := tx.SessionBySID(sid)
	if errors.Is(err, store.ErrNotFound) {
		return store.Session{}, ErrNoSession
	}
	if err != nil {
		return store.Session{}, err
	}
	if !owns(sess, clientSecret) {
		return store.Session{}, ErrNoSession
	}
	return sess, nil
}

func validation(s store.Session) Validation {
	return Validation{SID: s.SID, MSISDN: s.MSISDN, Country: s.Country, Purpose: s.Purpose, ValidatedAt: s.ValidatedAt}
}
