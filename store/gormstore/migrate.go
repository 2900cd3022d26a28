package gormstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"example.com/threepid/store"
)

// migration changes the tables from one version to the next. It can be repeated after it was
// interrupted at any point, because MySQL commits each CREATE and ALTER at once.
type migration func(*gorm.DB) error

// schemaVersion is the version after all migrations.
const schemaVersion = 8

// migrations returns all steps in order. The version of a schema is the number of steps that have
// run. A released step is never changed: append another.
func migrations() []migration {
	return []migration{createTables, addLimitsAndDelegation, addEpochsAndKeys, addAttemptPurpose, addCounters, replaceBuckets, addHistory, addExpiry}
}

// createLatest creates the tables of a new database in their latest form. If it is interrupted, the
// migrations create the rest.
func createLatest(tx *gorm.DB) error {
	return createMissing(tx, &sessionRow{}, &associationRow{}, &recordRow{}, &countRow{}, &verdictRow{}, &totalRow{}, &entryRow{})
}

func createTables(tx *gorm.DB) error {
	return createMissing(tx, &firstSessionRow{}, &associationRow{})
}

// addLimitsAndDelegation adds columns for what a session was charged, and for a delegate. It once
// created the table threepid_buckets as well.
func addLimitsAndDelegation(tx *gorm.DB) error {
	return addMissing(tx, "Decoy", "Texts", "Client", "ClientTexts", "DelegateID", "AcceptedTokenDigest")
}

// addEpochsAndKeys adds columns for the epoch of a session's number, and for the ID of the server
// key of its token.
func addEpochsAndKeys(tx *gorm.DB) error { return addMissing(tx, "Epoch", "KeyID") }

// addAttemptPurpose adds a column for the purpose of the latest attempt that was sent.
func addAttemptPurpose(tx *gorm.DB) error { return addMissing(tx, "AttemptPurpose") }

// addHistory adds the tables for statistics and the journal, and a column for the provider of a
// session's latest SMS.
func addHistory(tx *gorm.DB) error {
	if err := addMissing(tx, "Provider"); err != nil {
		return err
	}
	return createMissing(tx, &totalRow{}, &entryRow{})
}

// addExpiry changes no table. From this version on, PostgreSQL has functions that delete expired
// rows of all tables; migrate creates them.
func addExpiry(*gorm.DB) error { return nil }

// addMissing adds the columns that the table of sessions does not have yet.
func addMissing(tx *gorm.DB, columns ...string) error {
	for _, column := range columns {
		if tx.Migrator().HasColumn(&sessionRow{}, column) {
			continue
		}
		if err := tx.Migrator().AddColumn(&sessionRow{}, column); err != nil {
			return err
		}
	}
	return nil
}

// replaceBuckets copies the table of older versions into threepid_records, which has other column
// names and a version for each row.
func replaceBuckets(tx *gorm.DB) error {
	const old = "threepid_buckets"
	if err := createMissing(tx, &recordRow{}); err != nil || !tx.Migrator().HasTable(old) {
		return err
	}
	err := tx.Exec("INSERT INTO threepid_records (record_key, state, expires_at, version)" +
		" SELECT bucket_key, state, expires_at, 1 FROM threepid_buckets AS b" +
		" WHERE NOT EXISTS (SELECT 1 FROM threepid_records AS r WHERE r.record_key = b.bucket_key)").Error
	if err != nil {
		return err
	}
	return tx.Migrator().DropTable(old)
}

func createMissing(tx *gorm.DB, tables ...any) error {
	if tx.Name() == dialectMySQL {
		// The default of the database may be a character set without emoji, or a case-insensitive
		// collation.
		tx = tx.Set("gorm:table_options", "DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin")
	}
	for _, table := range tables {
		if tx.Migrator().HasTable(table) {
			continue
		}
		if err := tx.Migrator().CreateTable(table); err != nil {
			return err
		}
	}
	return nil
}

// Migrate creates the tables, or changes them to the version of this release. If they have that
// version, it changes nothing. Several processes may call it at once. The error wraps
// [store.ErrNewerSchema] if the database is from a newer release. It names the table or column if
// one is missing. If the driver prepares statements although Options.NoPrepare is set, it says how
// to turn that off.
func (s *Store) Migrate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.noPrepare && s.db.Name() == dialectPostgreSQL {
		if err := s.checkUnprepared(ctx); err != nil {
			return err
		}
	}
	for try := 1; ; try++ {
		err := s.db.Session(&gorm.Session{NewDB: true, Context: s.within(ctx)}).Transaction(migrate)
		if err == nil {
			return nil
		}
		if try == maxTries || errors.Is(err, store.ErrNewerSchema) || errors.Is(err, errIncomplete) {
			return fmt.Errorf("gormstore: migrate: %w", err)
		}
		// Another process may be creating the same tables. What that looks like differs between
		// databases, so try again.
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// checkUnprepared asks PostgreSQL, in a statement, whether that statement is prepared. With a
// pooler that keeps no prepared statements, requests would otherwise fail when two clients share a
// connection.
func (s *Store) checkUnprepared(ctx context.Context) error {
	mark := fmt.Sprintf("threepid %016x", rand.Uint64()) //nolint:gosec // it is no secret
	var prepared bool
	err := s.db.WithContext(s.within(ctx)).
		Raw("SELECT EXISTS (SELECT 1 FROM pg_prepared_statements WHERE statement LIKE '%"+mark+"%' AND statement <> ?)", "").
		Scan(&prepared).Error
	if err != nil {
		return fmt.Errorf("gormstore: look for prepared statements: %w", err)
	}
	if prepared {
		return errors.New("gormstore: Options.NoPrepare is set, and the driver prepares statements itself; " +
			"add default_query_exec_mode=exec to pgx's data source name")
	}
	return nil
}

func migrate(tx *gorm.DB) error {
	version, err := versionOf(tx)
	if err != nil {
		return err
	}
	steps := migrations()
	if version > int64(len(steps)) {
		return fmt.Errorf("%w: it has version %d, the program knows versions up to %d",
			store.ErrNewerSchema, version, len(steps))
	}
	if version == int64(len(steps)) {
		return checkTables(tx)
	}
	if version == 0 && !tx.Migrator().HasTable(&sessionRow{}) {
		steps = []migration{createLatest} // one step instead of a dozen changes to empty tables
	}
	for i, step := range steps[version:] {
		if err := step(tx); err != nil {
			return fmt.Errorf("to version %d: %w", version+int64(i)+1, err)
		}
	}
	if tx.Name() == dialectPostgreSQL {
		for _, function := range postgresFunctions() {
			if err := tx.Exec(function).Error; err != nil {
				return err
			}
		}
	}
	row := schemaRow{ID: 1, Version: schemaVersion}
	if err := tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
		return err
	}
	return checkTables(tx)
}

// errIncomplete means that a part of the tables was removed.
var errIncomplete = errors.New("threepid_schema says that the tables are complete, and they are not; " +
	"restore what is missing from a backup, or drop all threepid_ tables to begin with empty ones")

// checkTables finds a missing table or column at the start, and not during some request.
func checkTables(tx *gorm.DB) error {
	for _, table := range []struct {
		row     any
		columns []string
	}{
		{&[]sessionRow{}, names(sessionTable())},
		{&[]recordRow{}, names(recordTable())},
		{&[]associationRow{}, []string{"msisdn", "user_id", "validated_at", "added_at"}},
		{&[]countRow{}, []string{"subject", "started_at", "node", "sent", "validated", "expires_at"}},
		{&[]verdictRow{}, []string{"subject", "version", "state", "expires_at"}},
		{&[]totalRow{}, []string{"started_at", "name", "node", "counted", "millis", "units", "expires_at"}},
		{&[]entryRow{}, []string{"id", "subject", "ref", "happened_at", "content", "expires_at"}},
	} {
		if err := tx.Select(table.columns).Where("1 = 0").Find(table.row).Error; err != nil {
			if missing(err) {
				err = fmt.Errorf("%w: %w", errIncomplete, err)
			}
			return err
		}
	}
	if tx.Name() == dialectPostgreSQL {
		d := postgres()
		err := errors.Join(tx.Exec(d.read, "[]", "[]", "[]").Error, tx.Exec(d.write, "[]", "[]").Error)
		for _, table := range tablesThatExpire() {
			err = errors.Join(err, tx.Exec(d.expire(table), 0, 0).Error)
		}
		return err
	}
	return nil
}

func names(t table) (names []string) {
	for _, c := range t.columns {
		names = append(names, c.name)
	}
	return names
}

// versionOf returns 0 for a database without the tables.
func versionOf(tx *gorm.DB) (int64, error) {
	if !tx.Migrator().HasTable(&schemaRow{}) {
		return 0, tx.Migrator().CreateTable(&schemaRow{})
	}
	var rows []schemaRow
	if err := tx.Find(&rows).Error; err != nil {
		return 0, fmt.Errorf("read the version: %w", err)
	}
	if len(rows) == 0 {
		return 0, nil
	}
	return rows[0].Version, nil
}
