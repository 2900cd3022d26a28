package main

import "example.com/threepid/store"

// session is a row of the compared stores.
type session struct {
	Key            []byte `gorm:"primaryKey"`
	SID            string `gorm:"column:sid;uniqueIndex"`
	MSISDN         string `gorm:"column:msisdn"`
	Country        string
	Purpose        string
	NextLink       string
	Attempt        int64
	ClaimID        string
	ClaimAttempt   int64
	LeaseUntil     int64
	Outcome        string
	Nonce          []byte
	TokenExpiresAt int64
	WrongTries     int
	Decoy          bool
	Texts          int
	Client         string
	ClientTexts    int
	Handle         string
	Proof          string
	ValidatedAt    int64
	RedeemedAt     int64
	CreatedAt      int64 `gorm:"autoCreateTime:false"`
	ExpiresAt      int64 `gorm:"index"`
}

// association is a row of the table of accounts.
type association struct {
	MSISDN string `gorm:"column:msisdn;primaryKey"`
	UserID string
}

// columns are those of a session. The first three have an index: an UPDATE that
// leaves them alone writes fewer pages.
const columns = `key, sid, expires_at, msisdn, country, purpose, next_link, attempt, claim_id, claim_attempt, lease_until, outcome,
	nonce, token_expires_at, wrong_tries, decoy, texts, client, client_texts, handle, proof, validated_at, redeemed_at, created_at`

func rowOf(s *store.Session) session {
	return session{
		Key: s.Key[:], SID: s.SID, MSISDN: s.MSISDN, Country: s.Country, Purpose: string(s.Purpose), NextLink: s.NextLink,
		Attempt: s.Attempt, ClaimID: s.ClaimID, ClaimAttempt: s.ClaimAttempt, LeaseUntil: s.LeaseUntil, Outcome: string(s.Outcome),
		Nonce: s.Nonce, TokenExpiresAt: s.TokenExpiresAt, WrongTries: s.WrongTries, ValidatedAt: s.ValidatedAt,
		Decoy: s.Decoy, Texts: s.Texts, Client: s.Client, ClientTexts: s.ClientTexts, Handle: s.Handle, Proof: s.Proof,
		RedeemedAt: s.RedeemedAt, CreatedAt: s.CreatedAt, ExpiresAt: s.ExpiresAt,
	}
}

func (r *session) session() store.Session {
	s := store.Session{
		SID: r.SID, MSISDN: r.MSISDN, Country: r.Country, Purpose: store.Purpose(r.Purpose), NextLink: r.NextLink,
		Attempt: r.Attempt, ClaimID: r.ClaimID, ClaimAttempt: r.ClaimAttempt, LeaseUntil: r.LeaseUntil, Outcome: store.Outcome(r.Outcome),
		Nonce: r.Nonce, TokenExpiresAt: r.TokenExpiresAt, WrongTries: r.WrongTries, ValidatedAt: r.ValidatedAt,
		Decoy: r.Decoy, Texts: r.Texts, Client: r.Client, ClientTexts: r.ClientTexts, Handle: r.Handle, Proof: r.Proof,
		RedeemedAt: r.RedeemedAt, CreatedAt: r.CreatedAt, ExpiresAt: r.ExpiresAt,
	}
	copy(s.Key[:], r.Key)
	return s
}

// values are those of columns.
func (r *session) values() []any {
	return []any{
		r.Key, r.SID, r.ExpiresAt, r.MSISDN, r.Country, r.Purpose, r.NextLink, r.Attempt, r.ClaimID, r.ClaimAttempt, r.LeaseUntil, r.Outcome,
		r.Nonce, r.TokenExpiresAt, r.WrongTries, r.Decoy, r.Texts, r.Client, r.ClientTexts, r.Handle, r.Proof, r.ValidatedAt, r.RedeemedAt, r.CreatedAt,
	}
}

// fields are where columns are scanned to.
func (r *session) fields() []any {
	return []any{
		&r.Key, &r.SID, &r.ExpiresAt, &r.MSISDN, &r.Country, &r.Purpose, &r.NextLink, &r.Attempt, &r.ClaimID, &r.ClaimAttempt, &r.LeaseUntil, &r.Outcome,
		&r.Nonce, &r.TokenExpiresAt, &r.WrongTries, &r.Decoy, &r.Texts, &r.Client, &r.ClientTexts, &r.Handle, &r.Proof, &r.ValidatedAt, &r.RedeemedAt, &r.CreatedAt,
	}
}
