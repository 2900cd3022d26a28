// Package store defines what threepid stores, and the interfaces that a store implements. It
// imports nothing but the standard library, so that a store of your own links no other.
//
// [Store] holds validation sessions and the records of rate limits; [Accounts]
// maps numbers to accounts. They are separate because a host usually has a table
// of accounts already and rarely one of sessions.
//
// A unit of work names its rows first and then changes plain data: see [Names]
// and [Rows]. [Apply] and [Follow] are the parts that every store has in common.
// Package storetest holds the checks that every Store and Accounts must pass.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

	// ErrNewerSchema means that a newer release of threepid has written the database, which this
	// release would misread.
	ErrNewerSchema = errors.New("store: the database has a newer schema than this program knows")

	// ErrUnsupported means that this implementation does not support the call.
	ErrUnsupported = errors.New("store: not supported")
)

// Store stores validation sessions and records. Its methods are safe for concurrent use, also
// by several processes over one database.
//
// An error that is none of this package's sentinels means that the store failed. Then either
// all of the unit was stored or nothing.
//
// Only DeleteExpired deletes rows. A store never applies ExpiresAt by itself, because the
// caller's clock decides.
type Store interface {
	// View returns the named rows as they were at one moment, after every Update
	// that had returned when View was called. An absent row is its zero value, but
	// a record keeps its key. Expired rows are returned until they are deleted.
	View(ctx context.Context, names Names) (Rows, error)

	// Update loads the named rows, calls change, and stores what change made of
	// them: all of it, durable when Update returns nil, or nothing. Durable means
	// that the rows survive a crash of the process and, if the store outlives the
	// process at all, of the machine.
	//
	// Update is serializable over all named rows: its result is as if no other
	// Update had run between the load and the commit. A row that was only read, or
	// was absent, is part of this. A store that locks must lock all named rows,
	// absent ones too, from the load to the commit. A store that does not lock must
	// check at the commit, as one step with the writing, that no named row has
	// changed, has appeared or has been deleted since the load, and start again
	// otherwise; a version that starts at 1 again after a row was deleted is not
	// enough for that. Where the database checks only rows that it writes, a unit
	// that changes anything writes all rows that it names.
	//
	// When change returns an error, nothing is stored and Update returns that
	// error; when change panics, nothing is stored and Update panics with the same
	// value. If the error is a [NamesError], Update starts again with its names,
	// at most three times.
	//
	// change may be called more than once, and after an error or before a crash
	// what it saw may never have been stored. So it changes only the Rows and
	// variables that it sets at each call, and calls neither the store nor other
	// services. The time that it needs it reads itself: it is called after the rows
	// were loaded, however long that took.
	//
	// If ctx is done before the unit begins, Update returns its error. After that, a
	// unit may be completed whatever becomes of ctx.
	Update(ctx context.Context, names Names, change func(*Rows) error) error

	// DeleteExpired deletes at most limit sessions and records in total whose
	// ExpiresAt is at or before now, and returns how many it deleted. Nothing to
	// delete is no error. It may leave out rows that a unit of work is using.
	// Callers keep limit small: writers may wait for it.
	DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error)
}

// Key identifies a session by what the client sent, see [SessionKey], or a
// record by its subject, see [RecordKey]. It does not reveal what that was.
type Key [sha256.Size]byte

// String returns the key in hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText returns the key in hexadecimal digits.
func (k Key) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, k[:]), nil }

// UnmarshalText sets the key from hexadecimal digits.
func (k *Key) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(k)) {
		return errors.New("store: a key has 64 hexadecimal digits")
	}
	_, err := hex.Decode(k[:], text)
	return err
}

// SessionKey returns the key of the session for a client_secret, the country
// as the client sent it, and the number in E.164 without the plus sign.
// client_secret itself is never stored; the key is how it is recognised.
func SessionKey(clientSecret, country, msisdn string) Key {
	// NUL occurs in none of the three, so no two triples give the same bytes.
	return sha256.Sum256([]byte(clientSecret + "\x00" + country + "\x00" + msisdn))
}

// RecordKey returns the key of the record for one subject of a scope, such as
// one number, or one number and one client. No part may contain NUL.
func RecordKey(scope string, subject ...string) Key {
	return sha256.Sum256([]byte(scope + "\x00" + strings.Join(subject, "\x00")))
}

// Purpose is what a client wants to validate its number for.
type Purpose string

// The purposes, one for each requestToken endpoint.
const (
	PurposeAdd      Purpose = "add"      // to add the number to an account
	PurposeRegister Purpose = "register" // to register an account with it
	PurposePassword Purpose = "password" // to reset the password of the account that has it
	PurposeIdentity Purpose = "identity" // for a homeserver that delegates to this node
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

	// The latest claim. ClaimID is empty before the first. While LeaseUntil is in the
	// future, only the claim's owner may send. It is zero once the claim has ended with
	// Outcome.
	ClaimID      string
	ClaimAttempt int64
	LeaseUntil   int64
	Outcome      Outcome

	// Provider is the name of the provider that accepted the latest SMS. It may be empty.
	Provider string // at most 128 bytes

	// Nonce, 32 bytes, gives the token together with the client_secret. The row does not
	// reveal the token, because client_secret is not stored.
	Nonce          []byte
	TokenExpiresAt int64
	WrongTries     int // with this nonce

	// Epoch is the number's epoch when the nonce was drawn: once the number has
	// another one, the session is void. It may be empty.
	Epoch string // at most 64 bytes

	// KeyID identifies the server key of the token without revealing it. It is empty if
	// the token has none.
	KeyID string // at most 64 bytes

	// Decoy means that the number must not be validated, and that the SMS said so: no
	// token is right.
	Decoy bool

	// Texts is how many SMS of this session are charged to limits and not confirmed.
	// ClientTexts of them were requested by Client, the latest client. Client does not
	// reveal that client's address; it may be empty.
	Texts       int
	Client      string // at most 64 bytes
	ClientTexts int

	// If a delegate sends and checks the token, DelegateID is its name for the
	// verification. Once it has accepted a token, AcceptedTokenDigest is that token's
	// digest, because the service may forget it soon. Both may be empty.
	DelegateID          string // at most 255 bytes
	AcceptedTokenDigest string // at most 64 bytes

	ValidatedAt int64 // when the right token was submitted
	RedeemedAt  int64 // when the host took the validation; it cannot be taken again

	CreatedAt int64
	ExpiresAt int64 // when DeleteExpired may delete it
}

// Record is the state of one subject, such as a client or a range of numbers, mostly for
// rate limiting. State is opaque to the store. A record without State and ExpiresAt is
// the same as no record.
type Record struct {
	Key       Key    // unique
	State     string // UTF-8 without NUL, at most 2,000 bytes
	ExpiresAt int64  // when DeleteExpired may delete it; Unix milliseconds
}

// Accounts maps numbers to accounts. Numbers are E.164 without the plus sign. User IDs are
// the host's own, opaque to threepid and never empty.
type Accounts interface {
	// Owner returns the user that the number is associated with, or
	// ErrNotFound.
	Owner(ctx context.Context, msisdn string) (userID string, err error)

	// Associate records that the number belongs to the user. It returns ErrInUse if the
	// number belongs to another user, and never reassigns it; of concurrent calls one
	// wins. It is not an error if the user has the number already; nothing changes.
	//
	// If the host allows one number for each user, and the user has another, Associate
	// returns ErrOneNumber and changes nothing. It must not replace the old number,
	// because the caller would have to void what was validated with it. An unknown user is
	// an error.
	Associate(ctx context.Context, a Association) error

	// Dissociate removes an association, or returns ErrNotFound if the user does not have
	// the number.
	Dissociate(ctx context.Context, userID, msisdn string) error

	// List returns the user's numbers, oldest association first. A user without numbers is
	// not an error.
	List(ctx context.Context, userID string) ([]Association, error)
}

// Association is a number on an account. Times are Unix milliseconds, UTC.
type Association struct {
	UserID      string
	MSISDN      string
	ValidatedAt int64
	AddedAt     int64
}

// OwnerFunc is an [Accounts] that only looks numbers up, for a host that changes its table of
// numbers itself. Its other methods return ErrUnsupported.
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
