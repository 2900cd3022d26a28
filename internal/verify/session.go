package verify

import (
	"bytes"
	"cmp"
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

// lapsed reports whether a session was validated too long ago. It may live on,
// because its client has asked for another code since.
func lapsed(s store.Session, l lifetimes, now int64) bool {
	return s.ValidatedAt != 0 && now >= s.ValidatedAt+l.session.Milliseconds()
}

// lifetimes are the spans that transitions work with.
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

// claimed is s with the attempt claimed: nobody else sends for it until the
// lease ends. The token stays the same as long as it lives, so that of two
// texts either works; each text gives it its whole lifetime again, since who
// asks for another text must not be sent one that is about to die. That widens
// nothing: the wrong tries are counted for all that time together.
//
// epoch is the number's. When it is another than the session's, the number may
// have another holder since.
func claimed(s store.Session, r Request, decoy bool, epoch string, fresh secrets, l lifetimes, now int64) store.Session {
	if s.RedeemedAt != 0 || s.ValidatedAt != 0 && s.Purpose != r.Purpose {
		// The host has taken that validation, or it was for something else: this
		// is a new one.
		s.ValidatedAt, s.RedeemedAt, s.TokenExpiresAt = 0, 0, 0
	}
	before := s.Nonce
	// Another purpose has another token, which is owed its own tries.
	if now >= s.TokenExpiresAt || s.WrongTries >= maxTries || s.Purpose != "" && s.Purpose != r.Purpose || fresh.keys.outdated(s) {
		s.Nonce, s.WrongTries = fresh.nonce, 0
	}
	if s.Decoy != decoy || s.Epoch != epoch {
		// The number was added to an account, removed or released: nothing of
		// before counts. The wrong tries still do, since a client that sees them
		// reset would learn of it.
		s.Nonce, s.ValidatedAt = fresh.nonce, 0
	}
	s.Purpose, s.Decoy, s.Epoch = r.Purpose, decoy, epoch
	if !bytes.Equal(s.Nonce, before) {
		s.KeyID = fresh.keys.first
		s.Handle, s.Proof = "", "" // of a token that is no longer
	}
	s.ExpiresAt = now + l.session.Milliseconds()
	s.NextLink = r.NextLink
	s.TokenExpiresAt = now + l.token.Milliseconds()
	s.ClaimID, s.ClaimAttempt, s.Outcome = fresh.claimID, r.Attempt, store.OutcomePending
	s.LeaseUntil = now + l.lease.Milliseconds()
	return s
}

// paid reports whether the limits were charged for an attempt whose SMS may have been
// sent. If its sender died or its provider took too long, another try costs nothing.
func paid(s store.Session, attempt int64) bool {
	return s.ClaimID != "" && s.ClaimAttempt == attempt &&
		(s.Outcome == store.OutcomePending || s.Outcome == store.OutcomeUnknown)
}

// charged is s after another SMS was taken from the limits.
func charged(s store.Session, client string) store.Session {
	if s.Client != client {
		s.Client, s.ClientTexts = client, 0
	}
	s.Texts++
	s.ClientTexts++
	return s
}

// uncharged is s after that text came back.
func uncharged(s store.Session, client string) store.Session {
	s.Texts = max(0, s.Texts-1)
	if s.Client == client {
		s.ClientTexts = max(0, s.ClientTexts-1)
	}
	return s
}

// settled is s after the claim in mine ended. A claim that another node has taken over,
// because the lease ran out, is left alone. But an accepted SMS counts whichever node
// sent it, and so does the handle of its token as long as there is no later one.
func settled(s, mine store.Session, o store.Outcome, handle string) store.Session {
	ours := s.ClaimID == mine.ClaimID
	if ours {
		s.LeaseUntil, s.Outcome = 0, o
	}
	if o != store.OutcomeAccepted {
		return s
	}
	s = accepted(s, mine.ClaimAttempt, mine.Purpose)
	if ours || s.Handle == "" && bytes.Equal(s.Nonce, mine.Nonce) {
		s.Handle = handle
	}
	return s
}

// accepted is s after the SMS of an attempt was accepted.
func accepted(s store.Session, attempt int64, p store.Purpose) store.Session {
	if attempt > s.Attempt {
		s.Attempt, s.AttemptPurpose = attempt, p
	}
	return s
}

// seenPurpose is what the attempt that was seen last was for.
func seenPurpose(s store.Session) store.Purpose { return cmp.Or(s.AttemptPurpose, s.Purpose) }

// owns tells in constant time whether clientSecret is the session's.
func owns(s store.Session, clientSecret string) bool {
	key := store.SessionKey(clientSecret, s.Country, s.MSISDN)
	return subtle.ConstantTimeCompare(key[:], s.Key[:]) == 1
}

// compared is s before a token is compared: a try fewer. No error means that the
// token may be compared. epoch is the number's.
func compared(s store.Session, epoch string, now int64) (store.Session, error) {
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

// validated is s after the right token, which proves the number now, also when the
// session was validated before. The tries are forgiven: the one that it
// was counted as, and those of submits that were cut off before they came to this.
func validated(s store.Session, l lifetimes, now int64) store.Session {
	s.WrongTries = 0
	s.Texts, s.ClientTexts = 0, 0
	if s.Attempt < 0 && (s.Outcome == store.OutcomePending || s.Outcome == store.OutcomeUnknown) {
		// A right token proves that the SMS arrived, although its sender died before
		// it recorded that, or its provider did not report it. Unless there was an
		// earlier SMS: that one has the same token.
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

// errUnknownSession is the one answer to an unknown sid and to a wrong
// client_secret, so that neither can be told from the other.
func errUnknownSession() error {
	return Errorf(InvalidParam, "No session has that sid and client_secret")
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
