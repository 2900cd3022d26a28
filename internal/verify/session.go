package verify

import (
	"crypto/subtle"
	"time"

	"example.com/threepid/store"
)

// The transitions of a session, as functions of the session and the time, so
// that they can run inside a store's unit of work as often as it likes. Times
// are Unix milliseconds.

// maxTries is how many wrong tokens use a nonce up.
const maxTries = 5

// longestLease is more than any lease lasts. One that ends later than this was
// taken by a clock that has been set back since, and would block its session
// until the time comes round again.
const longestLease = 2 * time.Minute

// standing is how a session stands towards an attempt.
type standing int

const (
	free standing = iota // nobody is sending; this attempt may be claimed
	seen                 // the provider has accepted this attempt or a later one
	busy                 // a claim's lease is not over
)

func standingOf(s store.Session, attempt, now int64) standing {
	switch {
	case s.Attempt >= attempt:
		return seen
	case s.LeaseUntil > now && s.LeaseUntil <= now+longestLease.Milliseconds():
		return busy
	default:
		return free
	}
}

func expired(s store.Session, now int64) bool { return now >= s.ExpiresAt }

// lifetimes are the spans that transitions work with.
type lifetimes struct {
	token, session, lease time.Duration
}

// newSession is a session before its first claim.
func newSession(key store.Key, msisdn, country string, fresh secrets, now int64) store.Session {
	return store.Session{
		Key: key, SID: fresh.sid, MSISDN: msisdn, Country: country,
		Attempt: -1, Nonce: fresh.nonce, CreatedAt: now,
	}
}

// claimed is s with the attempt claimed: nobody else sends for it until the
// lease ends. The token stays the same as long as it lives, so that of two
// texts either works; each text gives it its whole lifetime again, since who
// asks for another text must not be sent one that is about to die. That widens
// nothing: the wrong tries are counted for all that time together.
func claimed(s store.Session, r Request, fresh secrets, l lifetimes, now int64) store.Session {
	if s.RedeemedAt != 0 || s.ValidatedAt != 0 && s.Purpose != r.Purpose {
		// The host has taken that validation, or it was for something else:
		// this is a new one.
		s.ValidatedAt, s.RedeemedAt, s.TokenExpiresAt = 0, 0, 0
	}
	if now >= s.TokenExpiresAt || s.WrongTries >= maxTries {
		s.Nonce, s.WrongTries = fresh.nonce, 0
	}
	s.Purpose = r.Purpose
	if s.ValidatedAt == 0 {
		s.ExpiresAt = now + l.session.Milliseconds()
	}
	s.NextLink = r.NextLink
	s.TokenExpiresAt = now + l.token.Milliseconds()
	s.ClaimID, s.ClaimAttempt, s.Outcome = fresh.claimID, r.Attempt, store.OutcomePending
	s.LeaseUntil = now + l.lease.Milliseconds()
	return s
}

// settled is s after the claim ended. A claim that somebody else has taken over
// meanwhile, because its lease ran out, is left alone; but an SMS that was
// accepted counts whoever sent it.
func settled(s store.Session, claimID string, attempt int64, o store.Outcome) store.Session {
	if o == store.OutcomeAccepted && attempt > s.Attempt {
		s.Attempt = attempt
	}
	if s.ClaimID == claimID {
		s.LeaseUntil, s.Outcome = 0, o
	}
	return s
}

// owns tells in constant time whether clientSecret is the session's.
func owns(s store.Session, clientSecret string) bool {
	key := store.SessionKey(clientSecret, s.Country, s.MSISDN)
	return subtle.ConstantTimeCompare(key[:], s.Key[:]) == 1
}

// judged is s after a token was submitted, and what to answer. The session is
// to be stored when changed.
func judged(s store.Session, right bool, l lifetimes, now int64) (next store.Session, changed bool, err error) {
	switch {
	case s.RedeemedAt != 0:
		return s, false, errUnknownSession()
	case expired(s, now):
		return s, false, errSessionExpired()
	case right && s.ValidatedAt != 0:
		return s, false, nil
	case s.WrongTries >= maxTries, now >= s.TokenExpiresAt:
		return s, false, errSessionExpired()
	case right:
		if s.Outcome == store.OutcomePending && s.Attempt < 0 {
			// Whoever has the token has the text, though its sender did not
			// live to record it. Unless there was a text before: that one has
			// the same token.
			s.Attempt = s.ClaimAttempt
		}
		s.ValidatedAt = now
		s.ExpiresAt = now + l.session.Milliseconds()
		return s, true, nil
	default:
		s.WrongTries++
		return s, true, Errorf(TokenIncorrect, "That code is not right. Check the text message and try again.")
	}
}

// validity tells why a session does not count as validated, or nil.
func validity(s store.Session, now int64) error {
	switch {
	case s.RedeemedAt != 0:
		return ErrNoSession
	case expired(s, now):
		return ErrExpired
	case s.ValidatedAt == 0:
		return ErrNotValidated
	default:
		return nil
	}
}

// errUnknownSession is the one answer to an unknown sid and to a wrong
// client_secret, so that neither can be told from the other.
func errUnknownSession() error {
	return Errorf(InvalidParam, "No session has that sid and client_secret")
}

func errSessionExpired() error {
	return Errorf(SessionExpired, "That code is no longer valid. Ask for a new one.")
}
