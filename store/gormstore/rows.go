package gormstore

// The rows below are the tables after all migrations; the statements in sql.go read and write them.
// The first migration creates firstSessionRow, and later ones add columns without changing it.
// Column names are explicit because the host may use another naming strategy. Sizes are explicit
// because MySQL needs one to index text: 255 characters are 1,020 of the 3,072 bytes that an index
// may have. Times are Unix milliseconds.

// sessionRow is the table threepid_sessions.
type sessionRow struct {
	First firstSessionRow `gorm:"embedded"` // a field, because GORM ignores embedded types that are not exported

	Decoy               int64  `gorm:"column:decoy;not null;default:0"` // 1: it is one
	Texts               int64  `gorm:"column:texts;not null;default:0"`
	Client              string `gorm:"column:client;size:64;not null;default:''"`
	ClientTexts         int64  `gorm:"column:client_texts;not null;default:0"`
	DelegateID          string `gorm:"column:handle;size:255;not null;default:''"`
	AcceptedTokenDigest string `gorm:"column:proof;size:64;not null;default:''"`
	Epoch               string `gorm:"column:epoch;size:64;not null;default:''"`
	KeyID               string `gorm:"column:key_id;size:64;not null;default:''"`

	AttemptPurpose string `gorm:"column:attempt_purpose;size:16;not null;default:''"`
	Provider       string `gorm:"column:provider;size:128;not null;default:''"`
}

// firstSessionRow is the table after the first migration. sid is the primary key and ordered by
// time, so that new rows are adjacent.
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

	// Version increases with each change. A write requires the version that was read.
	Version int64 `gorm:"column:version;not null"`
}

// TableName implements GORM's Tabler.
func (firstSessionRow) TableName() string { return "threepid_sessions" }

// TableName implements GORM's Tabler.
func (sessionRow) TableName() string { return firstSessionRow{}.TableName() }

// recordRow is the table threepid_records.
type recordRow struct {
	RecordKey []byte `gorm:"column:record_key;size:32;primaryKey"`
	State     string `gorm:"column:state;size:2000;not null"`
	ExpiresAt int64  `gorm:"column:expires_at;not null;index:threepid_records_expires_at"`
	Version   int64  `gorm:"column:version;not null"`
}

// TableName implements GORM's Tabler.
func (recordRow) TableName() string { return "threepid_records" }

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
