package verify

import (
	"bytes"
	"cmp"
	"crypto/subtle"
	"time"

	"example.com/threepid/store"
)

// The transitions of a session are pure functions of the session and the time, because
// a store may run a unit of work several times. Times are Unix milliseconds.

// maxTries is how many wrong tokens make a nonce invalid.
const maxTries = 5

// maxLease is longer than any lease. A lease that ends later was taken before a clock was
// set back, and would block its session until the clock reaches that time again.
const maxLease = 2 * time.Minute

// attemptState is what may happen to an attempt in a session.
type attemptState int

const (
	claimable attemptState = iota // nobody is sending; this attempt may be claimed
	sent                          // the provider has accepted this attempt or a later one
	inFlight                      // a claim's lease is not over
)

func attemptStateOf(s store.Session, attempt, now int64) attemptState {
	switch {
	case s.Attempt >= attempt:
		return sent
	case s.LeaseUntil > now && s.LeaseUntil <= now+maxLease.Milliseconds():
		return inFlight
	default:
		return claimable
	}
}

func expired(s store.Session, now int64) bool { return now >= s.ExpiresAt }

// lapsed reports whether a session was validated too long ago. The session itself may
// not have expired, because its client has requested another code since.
func lapsed(s store.Session, l lifetimes, now int64) bool {
	return s.ValidatedAt != 0 && now >= s.ValidatedAt+l.session.Milliseconds()
}

// lifetimes are the durations that transitions need.
type lifetimes struct {
	token, session, lease time.Duration
}

// newSession is a session before its first claim.
func newSession(key store.Key, msisdn, country string, fresh secrets, now int64) store.Session {
	return store.Session{
		Key: key, SID: fresh.sid, MSISDN: msisdn, Country: country,
		Attempt: -1, Nonce: fresh.nonce, KeyID: fresh.keys.first, CreatedAt: now,
	}
}

// claimed returns s with the attempt claimed: no other request sends it until the lease
// ends. The token stays the same while it is valid, so that the code of either SMS works.
// Each SMS renews the token's lifetime, so that no SMS carries a code that is about to
// expire. This allows no more guesses, because wrong tries are counted over all that time.
//
// epoch is the number's. If it differs from the session's, the number was released or
// removed since, and may have another holder.
func claimed(s store.Session, r Request, decoy bool, epoch string, fresh secrets, l lifetimes, now int64) store.Session {
	if s.RedeemedAt != 0 || s.ValidatedAt != 0 && s.Purpose != r.Purpose {
		// The host has redeemed that validation, or it was for another purpose.
		s.ValidatedAt, s.RedeemedAt, s.TokenExpiresAt = 0, 0, 0
	}
	before := s.Nonce
	// Another purpose gets another token, with its own tries.
	if now >= s.TokenExpiresAt || s.WrongTries >= maxTries || s.Purpose != "" && s.Purpose != r.Purpose || fresh.keys.outdated(s) {
		s.Nonce, s.WrongTries = fresh.nonce, 0
	}
	if s.Decoy != decoy || s.Epoch != epoch {
		// The number was added to an account, removed or released, which voids all
		// proofs. The wrong tries still count: resetting them would reveal the change to
		// the client.
		s.Nonce, s.ValidatedAt = fresh.nonce, 0
	}
	s.Purpose, s.Decoy, s.Epoch = r.Purpose, decoy, epoch
	if !bytes.Equal(s.Nonce, before) {
		s.KeyID = fresh.keys.first
		s.DelegateID, s.AcceptedTokenDigest = "", "" // of the old token
	}
	s.ExpiresAt = now + l.session.Milliseconds()
	s.NextLink = r.NextLink
	s.TokenExpiresAt = now + l.token.Milliseconds()
	s.ClaimID, s.ClaimAttempt, s.Outcome = fresh.claimID, r.Attempt, store.OutcomePending
	s.LeaseUntil = now + l.lease.Milliseconds()
	return s
}

// alreadyCharged reports whether the limits were charged for an attempt whose SMS may have been
// sent. If its sender died or its provider took too long, another try costs nothing.
func alreadyCharged(s store.Session, attempt int64) bool {
	return s.ClaimID != "" && s.ClaimAttempt == attempt &&
		(s.Outcome == store.OutcomePending || s.Outcome == store.OutcomeUnknown)
}

// charged returns s after another SMS was taken from the limits.
func charged(s store.Session, client string) store.Session {
	if s.Client != client {
		s.Client, s.ClientTexts = client, 0
	}
	s.Texts++
	s.ClientTexts++
	return s
}

// uncharged returns s after that charge was taken back.
func uncharged(s store.Session, client string) store.Session {
	s.Texts = max(0, s.Texts-1)
	if s.Client == client {
		s.ClientTexts = max(0, s.ClientTexts-1)
	}
	return s
}

// settled returns s after a claim ended. A claim that another node has taken over,
// because the lease ran out, is left unchanged. An accepted SMS counts whichever node
// sent it, and so does the delegate's name for its token while there is no later one.
func settled(s store.Session, c claim, o store.Outcome) store.Session {
	mine := c.sess
	ours := s.ClaimID == mine.ClaimID
	if ours {
		s.LeaseUntil, s.Outcome = 0, o
	}
	if o != store.OutcomeAccepted {
		return s
	}
	s = accepted(s, mine.ClaimAttempt, mine.Purpose)
	s.Provider = c.provider
	if ours || s.DelegateID == "" && bytes.Equal(s.Nonce, mine.Nonce) {
		s.DelegateID = c.handle
	}
	return s
}

// accepted returns s after the SMS of an attempt was accepted.
func accepted(s store.Session, attempt int64, p store.Purpose) store.Session {
	if attempt > s.Attempt {
		s.Attempt, s.AttemptPurpose = attempt, p
	}
	return s
}

// seenPurpose returns the purpose of the latest attempt that was sent.
func seenPurpose(s store.Session) store.Purpose { return cmp.Or(s.AttemptPurpose, s.Purpose) }

// owns reports, in constant time, whether clientSecret is the session's.
func owns(s store.Session, clientSecret string) bool {
	key := store.SessionKey(clientSecret, s.Country, s.MSISDN)
	return subtle.ConstantTimeCompare(key[:], s.Key[:]) == 1
}

// withTry returns s with one more try, which is counted before the token is compared. A
// nil error means that the token may be compared. epoch is the number's.
func withTry(s store.Session, epoch string, now int64) (store.Session, error) {
	switch {
	case s.RedeemedAt != 0:
		return s, errUnknownSession()
	case s.Epoch != epoch, expired(s, now), s.WrongTries >= maxTries, now >= s.TokenExpiresAt:
		return s, errSessionExpired()
	}
	s.WrongTries++
	return s, nil
}

// firstTry reports whether no code has been compared with the token of an SMS that
// the provider accepted.
func firstTry(s store.Session) bool { return s.WrongTries == 0 && s.Outcome == store.OutcomeAccepted }

// validated returns s after the right token, which proves the number at this time, also
// if the session was validated before. It resets the tries: this one, and those of submits
// that were interrupted before they got here.
func validated(s store.Session, l lifetimes, now int64) store.Session {
	s.WrongTries = 0
	s.Texts, s.ClientTexts = 0, 0
	if s.Attempt < 0 && (s.Outcome == store.OutcomePending || s.Outcome == store.OutcomeUnknown) {
		// The right token proves that the SMS arrived, although its sender died before
		// it recorded that, or the provider did not report it. If an earlier SMS was
		// accepted, the token may be from that one.
		s = accepted(s, s.ClaimAttempt, s.Purpose)
	}
	s.ValidatedAt = now
	s.ExpiresAt = now + l.session.Milliseconds()
	return s
}

// validity returns why a session does not count as validated, or nil. epoch is the
// number's.
func validity(s store.Session, epoch string, l lifetimes, now int64) error {
	switch {
	case s.RedeemedAt != 0:
		return ErrNoSession
	case expired(s, now), lapsed(s, l, now):
		return ErrExpired
	case s.ValidatedAt == 0, s.Epoch != epoch:
		return ErrNotValidated
	default:
		return nil
	}
}

// errUnknownSession is the error for an unknown sid and for a wrong client_secret, so
// that a client cannot distinguish the two.
func errUnknownSession() error {
	e := Errorf(InvalidParam, "No session has that sid and client_secret")
	e.Reason = "unknown session"
	return e
}

// errTokenIncorrect says how many tries are left of a token.
func errTokenIncorrect(s store.Session) error {
	left := maxTries - s.WrongTries
	if left <= 0 {
		return Errorf(TokenIncorrect, "That code is not right, and that was the last try. Ask for a new code.")
	}
	e := Errorf(TokenIncorrect, "That code is not right. Check the text message. %s left.", plural(left, "try", "tries"))
	e.TriesLeft = left
	return e
}

func errSessionExpired() error {
	return Errorf(SessionExpired, "That code is no longer valid. Ask for a new one.")
}
