// Package store says what threepid keeps and what it asks of whoever keeps
// it. It imports nothing but the standard library, so that a store can be
// written without pulling in any other.
//
// Two interfaces live here. [Store] holds validation sessions and the buckets
// that limits fill; [Accounts] says which account a number belongs to. They are separate because a host usually
// has a table of accounts already and hardly ever one of sessions.
//
// The words View and Update are bbolt's, for the same reason: the rules are
// plain code over a loaded [Session], and atomicity is the store's business.
// Package storetest holds the checks every Store and Accounts must pass.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"time"
)

// Errors that every store returns, matched with errors.Is.
var (
	// ErrNotFound means that there is no such session or association.
	ErrNotFound = errors.New("store: not found")

	// ErrInUse means that the number is associated with another account.
	ErrInUse = errors.New("store: number is associated with another account")

	// ErrOneNumber means that the user has another number, and that the host
	// allows one only.
	ErrOneNumber = errors.New("store: the user has another number, and can have one only")

	// ErrNewerSchema means that a newer release of threepid has written the
	// database, and that this one would misread it.
	ErrNewerSchema = errors.New("store: the database has a newer schema than this program knows")

	// ErrUnsupported means that this implementation does not do that.
	ErrUnsupported = errors.New("store: not supported")
)

// Store keeps validation sessions and buckets. All methods may be called from many
// goroutines, and by many processes over one database.
//
// An error that is none of this package's sentinels means that the store
// failed; nothing is known of the unit of work then, except that it was kept as
// a whole or not at all.
type Store interface {
	// View calls fn with a read-only Tx and returns fn's error. What fn reads
	// is consistent. To put anything inside View is an error.
	View(ctx context.Context, fn func(Tx) error) error

	// Update calls fn with a Tx. When fn returns nil, all that it put is
	// durable before Update returns nil; when it returns an error or panics,
	// nothing of it is kept and Update returns that error, or panics likewise.
	//
	// fn may run more than once, because a conflict with another process is
	// settled by running it again: it must change nothing but the Tx and
	// variables that it sets anew each time. What is read inside Update, sessions
	// and buckets, is not changed by anyone else before Update ends, and two
	// Updates that create the same do not both succeed on their first reading.
	//
	// A ctx that is done before the unit begins ends Update with its error.
	// Once begun, a unit may be carried through whatever becomes of ctx.
	Update(ctx context.Context, fn func(Tx) error) error

	// DeleteExpired deletes at most limit sessions and buckets, taken together,
	// whose ExpiresAt is at or before now, and returns how many went. None to delete is no error. It
	// is meant to be called in small chunks: it holds up writers meanwhile.
	DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error)
}

// Tx is what a unit of work sees: the store as it was when the unit began, and
// the unit's own changes. It is used by one goroutine, and not after fn ended.
// What it returns is the caller's own copy.
type Tx interface {
	// SessionByKey returns the session with that key, or ErrNotFound. Expired
	// sessions are found until they are deleted.
	SessionByKey(key Key) (Session, error)

	// SessionBySID returns the session with that sid, or ErrNotFound. Sids are
	// compared byte by byte: another case is another sid.
	SessionBySID(sid string) (Session, error)

	// PutSession stores s under s.Key, whole. If this Tx has read or put a
	// session with that key, s replaces it, its sid included; otherwise s is new.
	// Two sessions never have one sid: putting a second one fails.
	PutSession(s Session) error

	// Buckets returns the buckets with those keys, in the order of the keys, in
	// which none stands twice. One that is not there is returned with that key
	// and nothing else: absent and empty are the same. Inside Update all of them
	// are locked, in an order that is the same for all callers.
	Buckets(keys []Key) ([]Bucket, error)

	// PutBuckets stores buckets, whole, in which none stands twice. Each must
	// have been read in this unit, also if it was absent: one that was not is an
	// error.
	PutBuckets(buckets []Bucket) error
}

// Key identifies a session by what the client sent, see [SessionKey], or a
// bucket by what it counts, see [BucketKey]. It does not tell what that was.
type Key [sha256.Size]byte

// SessionKey returns the key of the session for a client_secret, the country
// as the client sent it, and the number in E.164 without the plus sign.
// client_secret itself is never stored; the key is how it is recognised.
func SessionKey(clientSecret, country, msisdn string) Key {
	// NUL occurs in none of the three, so no two triples give the same bytes.
	return sha256.Sum256([]byte(clientSecret + "\x00" + country + "\x00" + msisdn))
}

// BucketKey returns the key of the bucket for one subject of a scope, such as
// one number, or one number and one client. No part may contain NUL.
func BucketKey(scope string, subject ...string) Key {
	return sha256.Sum256([]byte(scope + "\x00" + strings.Join(subject, "\x00")))
}

// Purpose is what a client wants to validate its number for.
type Purpose string

// The purposes, one for each requestToken endpoint.
const (
	PurposeAdd      Purpose = "add"      // to add the number to an account
	PurposeRegister Purpose = "register" // to register an account with it
	PurposePassword Purpose = "password" // to reset the password of the account that has it
)

// Outcome is how the sending of a claimed attempt ended.
type Outcome string

// The outcomes of a claim.
const (
	OutcomePending  Outcome = ""         // not known: in flight, or its process died
	OutcomeAccepted Outcome = "accepted" // the provider took the SMS
	OutcomeFailed   Outcome = "failed"   // another try may work
	OutcomeRejected Outcome = "rejected" // the provider will never reach this number
	OutcomeUnknown  Outcome = "unknown"  // the provider took too long: the SMS may have left
)

// Session is one validation of one number by one client. Times are Unix
// milliseconds, UTC; zero means never.
type Session struct {
	Key     Key    // unique
	SID     string // unique; 1 to 255 bytes of [0-9a-zA-Z.=_-]
	MSISDN  string // E.164 without the plus sign: ASCII digits, at most 20
	Country string // as the client sent it: two letters, or empty

	Purpose  Purpose // of the latest claimed attempt, and of the validation
	NextLink string  // where a validated person is sent; may be empty

	// Attempt is the greatest send_attempt whose SMS the provider accepted, -1
	// before the first, and AttemptPurpose is what that SMS was for. It is empty
	// in sessions of older releases: then it is Purpose.
	Attempt        int64
	AttemptPurpose Purpose

	// The claim: who is sending, or sent last. ClaimID is empty before the
	// first. While LeaseUntil is in the future nobody else may send; it is
	// zero once the claim ended with Outcome.
	ClaimID      string
	ClaimAttempt int64
	LeaseUntil   int64
	Outcome      Outcome

	// Nonce, 32 bytes, gives the token together with the client_secret, which
	// is not stored: so the row does not tell the token.
	Nonce          []byte
	TokenExpiresAt int64
	WrongTries     int // with this nonce

	// Epoch is the number's epoch when the nonce was drawn: once the number has
	// another one, the session is void. It may be empty.
	Epoch string // at most 64 bytes

	// KeyID names the server key that the token was made with; it does not tell
	// the key. Empty: with none.
	KeyID string // at most 64 bytes

	// Decoy says that the session only looks like one: its number is not to be
	// validated, the text said so, and no token is right.
	Decoy bool

	// What the session has taken from the buckets and nobody has confirmed:
	// Texts in all, ClientTexts of them by the client that asked last. Client
	// stands for that client without telling its address; it may be empty.
	Texts       int
	Client      string // at most 64 bytes
	ClientTexts int

	// When a service texts and checks the token instead of us: Handle is what it
	// calls the verification, and Proof, once a token was right, a digest of that
	// token, which the service may not know for long. Both may be empty.
	Handle string // at most 255 bytes
	Proof  string // at most 64 bytes

	ValidatedAt int64 // when the right token was submitted
	RedeemedAt  int64 // when the host took the validation; it cannot be taken again

	CreatedAt int64
	ExpiresAt int64 // when DeleteExpired may delete it
}

// Bucket is what is remembered of one subject, such as a client or a block of
// numbers, to limit it. What State means is no business of the store.
type Bucket struct {
	Key       Key    // unique
	State     string // UTF-8, at most 2,000 bytes
	ExpiresAt int64  // when DeleteExpired may delete it; Unix milliseconds
}

// Accounts says which account a number belongs to. Numbers are E.164 without
// the plus sign; user IDs are the host's own, opaque here and never empty.
type Accounts interface {
	// Owner returns the user that the number is associated with, or
	// ErrNotFound.
	Owner(ctx context.Context, msisdn string) (userID string, err error)

	// Associate records that the number belongs to the user. It returns
	// ErrInUse when it belongs to another, and never reassigns; of many at
	// once one wins. The same user again is no error and changes nothing.
	//
	// When the host allows one number for each user, and the user has another,
	// Associate returns ErrOneNumber and changes nothing: the old number is not
	// replaced, because whoever leaves it behind must also void what was
	// validated with it, as Dissociate's caller does. An unknown user is an error.
	Associate(ctx context.Context, a Association) error

	// Dissociate ends an association, or returns ErrNotFound when that user
	// does not have that number.
	Dissociate(ctx context.Context, userID, msisdn string) error

	// List returns the user's numbers, oldest association first; a user
	// without any is no error.
	List(ctx context.Context, userID string) ([]Association, error)
}

// Association is a number on an account. Times are Unix milliseconds, UTC.
type Association struct {
	UserID      string
	MSISDN      string
	ValidatedAt int64
	AddedAt     int64
}

// OwnerFunc makes an [Accounts] of a look-up alone, for a host that changes its
// table of numbers itself: the other methods return ErrUnsupported.
type OwnerFunc func(ctx context.Context, msisdn string) (userID string, err error)

var _ Accounts = OwnerFunc(nil)

// Owner calls f.
func (f OwnerFunc) Owner(ctx context.Context, msisdn string) (string, error) { return f(ctx, msisdn) }

// Associate returns ErrUnsupported.
func (OwnerFunc) Associate(context.Context, Association) error { return ErrUnsupported }

// Dissociate returns ErrUnsupported.
func (OwnerFunc) Dissociate(context.Context, string, string) error { return ErrUnsupported }

// List returns ErrUnsupported.
func (OwnerFunc) List(context.Context, string) ([]Association, error) { return nil, ErrUnsupported }
