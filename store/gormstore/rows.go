package gormstore

import (
	"fmt"

	"example.com/threepid/store"
)

// The rows below are the tables as the migrations make them. What the first one
// made is firstSessionRow: a later one does not edit that but adds to it. Column names are spelled
// out because the host's naming strategy is not ours to rely on, and sizes
// because MySQL indexes no text without one: 255 characters are 1,020 bytes
// there, of 3,072 that an index may have. Times are Unix milliseconds.

// sessionRow is the table threepid_sessions.
type sessionRow struct {
	firstSessionRow `gorm:"embedded"`

	Decoy       int64  `gorm:"column:decoy;not null;default:0"` // 1: it is one
	Texts       int64  `gorm:"column:texts;not null;default:0"`
	Client      string `gorm:"column:client;size:64;not null;default:''"`
	ClientTexts int64  `gorm:"column:client_texts;not null;default:0"`
	Handle      string `gorm:"column:handle;size:255;not null;default:''"`
	Proof       string `gorm:"column:proof;size:64;not null;default:''"`
	Epoch       string `gorm:"column:epoch;size:64;not null;default:''"`
	KeyID       string `gorm:"column:key_id;size:64;not null;default:''"`

	AttemptPurpose string `gorm:"column:attempt_purpose;size:16;not null;default:''"`
}

// firstSessionRow is the table as it was at first. sid comes first and is time
// ordered, so that new rows lie together.
type firstSessionRow struct {
	SID            string `gorm:"column:sid;size:255;primaryKey"`
	SessionKey     []byte `gorm:"column:session_key;size:32;not null;uniqueIndex:threepid_sessions_session_key"`
	MSISDN         string `gorm:"column:msisdn;size:20;not null"`
	Country        string `gorm:"column:country;size:8;not null"`
	Purpose        string `gorm:"column:purpose;size:16;not null"`
	NextLink       string `gorm:"column:next_link;size:2048;not null"`
	Attempt        int64  `gorm:"column:attempt;not null"`
	ClaimID        string `gorm:"column:claim_id;size:255;not null"`
	ClaimAttempt   int64  `gorm:"column:claim_attempt;not null"`
	LeaseUntil     int64  `gorm:"column:lease_until;not null"`
	Outcome        string `gorm:"column:outcome;size:16;not null"`
	Nonce          []byte `gorm:"column:nonce;size:32"`
	TokenExpiresAt int64  `gorm:"column:token_expires_at;not null"`
	WrongTries     int64  `gorm:"column:wrong_tries;not null"`
	ValidatedAt    int64  `gorm:"column:validated_at;not null"`
	RedeemedAt     int64  `gorm:"column:redeemed_at;not null"`
	CreatedAt      int64  `gorm:"column:created_at;not null;autoCreateTime:false"`
	ExpiresAt      int64  `gorm:"column:expires_at;not null;index:threepid_sessions_expires_at"`

	// Version grows by one with each change, so that a change can be made on
	// the condition that there was none since the row was read.
	Version int64 `gorm:"column:version;not null"`
}

// TableName implements GORM's Tabler.
func (firstSessionRow) TableName() string { return "threepid_sessions" }

// TableName implements GORM's Tabler.
func (sessionRow) TableName() string { return firstSessionRow{}.TableName() }

// bucketRow is the table threepid_buckets.
type bucketRow struct {
	BucketKey []byte `gorm:"column:bucket_key;size:32;primaryKey"`
	State     string `gorm:"column:state;size:2000;not null"`
	ExpiresAt int64  `gorm:"column:expires_at;not null;index:threepid_buckets_expires_at"`
}

// TableName implements GORM's Tabler.
func (bucketRow) TableName() string { return "threepid_buckets" }

// associationRow is the table threepid_associations.
type associationRow struct {
	MSISDN      string `gorm:"column:msisdn;size:20;primaryKey"`
	UserID      string `gorm:"column:user_id;size:255;not null;index:threepid_associations_user_id"`
	ValidatedAt int64  `gorm:"column:validated_at;not null"`
	AddedAt     int64  `gorm:"column:added_at;not null"`
}

// TableName implements GORM's Tabler.
func (associationRow) TableName() string { return "threepid_associations" }

// schemaRow is the only row of the table threepid_schema.
type schemaRow struct {
	ID      int64 `gorm:"column:id;primaryKey;autoIncrement:false"`
	Version int64 `gorm:"column:version;not null"`
}

// TableName implements GORM's Tabler.
func (schemaRow) TableName() string { return "threepid_schema" }

// How many of sessionColumns no index has, and how many may change.
const (
	unindexedColumns  = 25
	changeableColumns = 27
)

// sessionColumns lists the columns in the order of sessionValues and
// scanSession. Those that an index has come last, and session_key, which never
// changes, is the very last: an UPDATE takes as many of them as it needs.
// SQLite rewrites the entry of each indexed column that an UPDATE names, also
// when its value stays, and each is another page to make durable.
func sessionColumns() []string {
	return []string{
		"version", "msisdn", "country", "purpose", "next_link", "attempt", "claim_id", "claim_attempt", "lease_until", "outcome",
		"nonce", "token_expires_at", "wrong_tries", "validated_at", "redeemed_at", "created_at",
		"decoy", "texts", "client", "client_texts", "handle", "proof", "epoch", "key_id", "attempt_purpose",
		"sid", "expires_at", "session_key",
	}
}

func sessionValues(s *store.Session, version int64) []any {
	decoy := int64(0)
	if s.Decoy {
		decoy = 1
	}
	return []any{
		version, s.MSISDN, s.Country, string(s.Purpose), s.NextLink, s.Attempt, s.ClaimID, s.ClaimAttempt, s.LeaseUntil,
		string(s.Outcome), s.Nonce, s.TokenExpiresAt, int64(s.WrongTries), s.ValidatedAt, s.RedeemedAt, s.CreatedAt,
		decoy, int64(s.Texts), s.Client, int64(s.ClientTexts), s.Handle, s.Proof, s.Epoch, s.KeyID, string(s.AttemptPurpose),
		s.SID, s.ExpiresAt, s.Key[:],
	}
}

func scanSession(row scanner) (s store.Session, version int64, err error) {
	var key []byte
	var decoy int64
	err = row.Scan(
		&version, &s.MSISDN, &s.Country, &s.Purpose, &s.NextLink, &s.Attempt, &s.ClaimID, &s.ClaimAttempt, &s.LeaseUntil,
		&s.Outcome, &s.Nonce, &s.TokenExpiresAt, &s.WrongTries, &s.ValidatedAt, &s.RedeemedAt, &s.CreatedAt,
		&decoy, &s.Texts, &s.Client, &s.ClientTexts, &s.Handle, &s.Proof, &s.Epoch, &s.KeyID, &s.AttemptPurpose,
		&s.SID, &s.ExpiresAt, &key,
	)
	if err != nil {
		return store.Session{}, 0, err
	}
	if len(key) != len(s.Key) {
		return store.Session{}, 0, fmt.Errorf("session_key has %d bytes, not %d", len(key), len(s.Key))
	}
	copy(s.Key[:], key)
	s.Decoy = decoy != 0
	return s, version, nil
}

func bucketColumns() []string { return []string{"bucket_key", "state", "expires_at"} }

func scanBucket(row scanner) (b store.Bucket, err error) {
	var key []byte
	if err := row.Scan(&key, &b.State, &b.ExpiresAt); err != nil {
		return store.Bucket{}, err
	}
	if len(key) != len(b.Key) {
		return store.Bucket{}, fmt.Errorf("bucket_key has %d bytes, not %d", len(key), len(b.Key))
	}
	copy(b.Key[:], key)
	return b, nil
}

func associationColumns() []string { return []string{"msisdn", "user_id", "validated_at", "added_at"} }

func scanAssociation(row scanner) (a store.Association, err error) {
	err = row.Scan(&a.MSISDN, &a.UserID, &a.ValidatedAt, &a.AddedAt)
	return a, err
}
