package gormstore

import (
	"fmt"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

// query names a statement that is prepared once and run often.
type query int

const (
	findByKey query = iota
	findBySID
	findOwner
	listNumbers
	findBuckets // bucketsAtOnce of them

	lockByKey // the same with the row locked until the transaction ends
	lockBySID
	lockOwner
	lockBuckets

	insertSession
	updateSession // leaves the indexed columns alone
	moveSession   // sets all but session_key
	insertAssociation
	deleteAssociation
	createBucket // unless it is there; only for transactions of hosts

	// For batches, which only SQLite has, and for transactions of hosts.
	takeLock // begins to write without writing anything
	setSavepoint
	releaseSavepoint
	rollBackToSavepoint

	singleQueries
)

// bucketsAtOnce is how many buckets are read or put in one statement: on a
// server each statement is a round trip.
const bucketsAtOnce = 8

// These put one row; those after them two, and so on up to bucketsAtOnce.
const (
	insertBuckets = singleQueries
	upsertBuckets = insertBuckets + bucketsAtOnce
	queryCount    = upsertBuckets + bucketsAtOnce
)

// conditional reports whether a statement writes nothing when the row is not as
// the unit has read it, and what that means.
func (q query) conditional() (ok bool, otherwise error) {
	switch q {
	case insertSession:
		return true, errTaken
	case updateSession, moveSession:
		return true, errChanged
	default:
		return false, nil
	}
}

type queryTexts [queryCount]string

func readerQueries() []query {
	return []query{findByKey, findBySID, findOwner, listNumbers, findBuckets}
}

func writerQueries(sqlite bool) []query {
	uses := []query{
		lockByKey, lockBySID, lockOwner, insertSession, updateSession, moveSession, insertAssociation, deleteAssociation,
		lockBuckets,
	}
	for n := range query(bucketsAtOnce) {
		uses = append(uses, insertBuckets+n, upsertBuckets+n)
	}
	if sqlite {
		return append(uses, takeLock, setSavepoint, releaseSavepoint, rollBackToSavepoint)
	}
	return append(uses, findByKey, findBySID)
}

// writeQueries has GORM write each statement in the dialect of db.
func writeQueries(db *gorm.DB) (*queryTexts, error) {
	w := queryWriter{db: db.Session(&gorm.Session{NewDB: true, DryRun: true})}
	locking := clause.Locking{Strength: clause.LockingStrengthUpdate}

	sessions := func(tx *gorm.DB, where string) *gorm.DB {
		return tx.Model(&sessionRow{}).Select(sessionColumns()).Where(where, 0).Find(&[]sessionRow{})
	}
	associations := func(tx *gorm.DB, where string) *gorm.DB {
		return tx.Model(&associationRow{}).Select(associationColumns()).Where(where, 0).
			Order("added_at, msisdn").Find(&[]associationRow{})
	}
	w.put(findByKey, sessions(w.db, "session_key = ?"))
	// The greatest sid that is not above the one asked for: a row is read, whether
	// that is it or not, and how long it takes does not tell which sids there are.
	w.put(findBySID, w.raw("SELECT "+strings.Join(sessionColumns(), ", ")+" FROM "+sessionRow{}.TableName()+
		" WHERE sid <= ? ORDER BY sid DESC LIMIT 1"))
	w.put(lockByKey, sessions(w.db.Clauses(locking), "session_key = ?"))
	w.put(lockBySID, sessions(w.db.Clauses(locking), "sid = ?"))
	w.put(findOwner, associations(w.db, "msisdn = ?"))
	w.put(lockOwner, associations(w.db.Clauses(locking), "msisdn = ?"))
	w.put(listNumbers, associations(w.db, "user_id = ?"))

	w.put(insertSession, w.raw(insertSessionText(w.db.Name())))
	w.put(updateSession, w.raw(updateSessions(sessionColumns()[:unindexedColumns])))
	w.put(moveSession, w.raw(updateSessions(sessionColumns()[:changeableColumns])))
	// A duplicate is no error: PostgreSQL writes errors to its log, with the number.
	unlessThere := clause.OnConflict{Columns: []clause.Column{{Name: "msisdn"}}, DoNothing: true}
	w.put(insertAssociation, w.db.Clauses(unlessThere).Create(&associationRow{}))
	w.put(deleteAssociation, w.raw("DELETE FROM threepid_associations WHERE msisdn = ?"))
	w.putBuckets(locking)
	w.put(takeLock, w.raw("UPDATE threepid_schema SET version = version WHERE 0 = 1"))
	w.put(setSavepoint, w.raw("SAVEPOINT threepid_unit"))
	w.put(releaseSavepoint, w.raw("RELEASE SAVEPOINT threepid_unit"))
	w.put(rollBackToSavepoint, w.raw("ROLLBACK TO threepid_unit"))
	return &w.texts, w.err
}

// putBuckets writes the statements about several buckets. Those that are there
// when they are put are locked, and may be overwritten.
func (w *queryWriter) putBuckets(locking clause.Locking) {
	find := func(tx *gorm.DB) *gorm.DB {
		return tx.Model(&bucketRow{}).Select(bucketColumns()).Where("bucket_key IN ?", make([][]byte, bucketsAtOnce)).
			Order("bucket_key").Find(&[]bucketRow{})
	}
	w.put(findBuckets, find(w.db))
	w.put(lockBuckets, find(w.db.Clauses(locking)))
	unlessThere := clause.OnConflict{Columns: []clause.Column{{Name: "bucket_key"}}, DoNothing: true}
	w.put(createBucket, w.db.Clauses(unlessThere).Create(&bucketRow{}))
	overwrite := clause.OnConflict{
		Columns: []clause.Column{{Name: "bucket_key"}}, DoUpdates: clause.AssignmentColumns([]string{"state", "expires_at"}),
	}
	for n := range query(bucketsAtOnce) {
		rows := make([]bucketRow, n+1)
		w.put(insertBuckets+n, w.db.Create(&rows))
		w.put(upsertBuckets+n, w.db.Clauses(overwrite).Create(&rows))
	}
}

type queryWriter struct {
	db    *gorm.DB
	texts queryTexts
	err   error
}

func (w *queryWriter) put(q query, built *gorm.DB) {
	if built.Error != nil && w.err == nil {
		w.err = fmt.Errorf("gormstore: write SQL: %w", built.Error)
	}
	w.texts[q] = built.Statement.SQL.String()
}

// raw puts the dialect's own signs for parameters in place of the question marks.
func (w *queryWriter) raw(text string) *gorm.DB {
	return w.db.Raw(text, make([]any, strings.Count(text, "?"))...)
}

// insertSessionText inserts nothing when there is a session with that key. A
// duplicate would be an error that PostgreSQL logs, over the simple protocol with
// the number. MySQL logs none, and its count of rows does not tell nothing from
// something under every setting.
func insertSessionText(dialect string) string {
	columns := sessionColumns()
	marks := strings.Repeat(", ?", len(columns))[2:]
	text := "INSERT INTO " + sessionRow{}.TableName() + " (" + strings.Join(columns, ", ") + ") VALUES (" + marks + ")"
	if dialect != dialectMySQL {
		text += " ON CONFLICT (session_key) DO NOTHING"
	}
	return text
}

// updateSessions addresses the row by its primary key whichever way it was
// read. InnoDB locks the index that a statement goes by, then the row: by
// session_key here, who has read by sid and who has read by key would each hold
// what the other wants next. It changes no row when the version is another.
func updateSessions(columns []string) string {
	return "UPDATE threepid_sessions SET " + strings.Join(columns, " = ?, ") + " = ? WHERE sid = ? AND version = ?"
}
