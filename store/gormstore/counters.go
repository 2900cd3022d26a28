package gormstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"example.com/threepid/store"
)

var _ store.Counters = (*Store)(nil)

// putAtOnce bounds the rows in one INSERT, because databases limit the parameters of a statement.
const putAtOnce = 200

type countRow struct {
	Subject   string `gorm:"column:subject;primaryKey;size:64"`
	StartedAt int64  `gorm:"column:started_at;primaryKey;autoIncrement:false"`
	Node      string `gorm:"column:node;primaryKey;size:32"`
	Sent      int64  `gorm:"column:sent;not null"`
	Validated int64  `gorm:"column:validated;not null"`
	ExpiresAt int64  `gorm:"column:expires_at;not null;index:threepid_counts_expires_at"`
}

// TableName implements GORM's tabler.
func (countRow) TableName() string { return "threepid_counts" }

type verdictRow struct {
	Subject   string `gorm:"column:subject;primaryKey;size:64"`
	Version   int64  `gorm:"column:version;not null;index:threepid_verdicts_version;autoIncrement:false"`
	State     string `gorm:"column:state;not null;size:500"`
	ExpiresAt int64  `gorm:"column:expires_at;not null;index:threepid_verdicts_expires_at"`
}

// TableName implements GORM's tabler.
func (verdictRow) TableName() string { return "threepid_verdicts" }

// addCounters creates the tables through which nodes share the guard's counts.
func addCounters(tx *gorm.DB) error { return createMissing(tx, &countRow{}, &verdictRow{}) }

// backgroundBusy is how long a background statement waits for SQLite's lock, in milliseconds.
const backgroundBusy = 500

// inBackground runs statements for which no request waits. On SQLite they use the connection with
// which requests write, so they must not hold it for as long as a request may wait for another
// process.
func (s *Store) inBackground(ctx context.Context, do func(*gorm.DB) error) error {
	session := gorm.Session{NewDB: true, Context: s.within(ctx), SkipDefaultTransaction: true}
	if s.db.Name() != dialectSQLite {
		return do(s.db.Session(&session))
	}
	if err := s.writer.expectNoHostLock(ctx, true); err != nil {
		return err
	}
	// The context bounds only the wait for a connection: see background.
	await, cancel := context.WithTimeoutCause(ctx, connectionPatience, errHostLock)
	defer cancel()
	err := s.db.WithContext(await).Connection(func(conn *gorm.DB) (err error) {
		conn = conn.Session(&session)
		const pragma = "PRAGMA busy_timeout"
		var usual int
		if err := conn.Raw(pragma).Scan(&usual).Error; err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Exec(fmt.Sprintf("%s = %d", pragma, usual)).Error) }()
		if err := conn.Exec(fmt.Sprintf("%s = %d", pragma, min(usual, backgroundBusy))).Error; err != nil {
			return err
		}
		return do(conn)
	})
	if err != nil && errors.Is(context.Cause(await), errHostLock) && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errHostLock, err)
	}
	return err
}

// PutCounts implements [store.Counters].
func (s *Store) PutCounts(ctx context.Context, counts []store.Count) error {
	rows := make([]countRow, 0, len(counts))
	for _, c := range counts {
		rows = append(rows, countRow{c.Subject, c.At, c.Node, c.Sent, c.Validated, c.ExpiresAt})
	}
	if len(rows) == 0 {
		return ctx.Err()
	}
	replace := clause.OnConflict{
		Columns:   []clause.Column{{Name: "subject"}, {Name: "started_at"}, {Name: "node"}},
		DoUpdates: clause.AssignmentColumns([]string{"sent", "validated", "expires_at"}),
	}
	err := s.inBackground(ctx, func(db *gorm.DB) error { return db.Clauses(replace).CreateInBatches(rows, putAtOnce).Error })
	if err != nil {
		return fmt.Errorf("gormstore: put counts: %w", err)
	}
	return nil
}

// SumCounts implements [store.Counters].
func (s *Store) SumCounts(ctx context.Context, subjects []string, since int64, except string) ([]store.Count, error) {
	if len(subjects) == 0 {
		return nil, ctx.Err()
	}
	var rows []countRow
	err := s.inBackground(ctx, func(db *gorm.DB) error {
		return db.Model(&countRow{}).Select("subject, started_at, SUM(sent) AS sent, SUM(validated) AS validated").
			Where("subject IN ? AND started_at >= ? AND node <> ?", subjects, since, except).
			Group("subject, started_at").Find(&rows).Error
	})
	if err != nil {
		return nil, fmt.Errorf("gormstore: sum counts: %w", err)
	}
	counts := make([]store.Count, 0, len(rows))
	for _, r := range rows {
		counts = append(counts, store.Count{Subject: r.Subject, At: r.StartedAt, Sent: r.Sent, Validated: r.Validated})
	}
	return counts, nil
}

// PutVerdicts implements [store.Counters].
func (s *Store) PutVerdicts(ctx context.Context, verdicts []store.Verdict) error {
	if len(verdicts) == 0 {
		return ctx.Err()
	}
	err := s.inBackground(ctx, func(db *gorm.DB) error {
		for _, v := range verdicts {
			if err := putVerdict(db, verdictRow{v.Subject, v.Version, v.State, v.ExpiresAt}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("gormstore: put a verdict: %w", err)
	}
	return nil
}

// putVerdict adds a verdict, or replaces one of a lower version. If another node adds one at the
// same moment, that one may have a lower version, so putVerdict tries again.
func putVerdict(db *gorm.DB, row verdictRow) error {
	for range maxTries {
		updated := db.Model(&verdictRow{}).Where("subject = ? AND version < ?", row.Subject, row.Version).
			Updates(map[string]any{"version": row.Version, "state": row.State, "expires_at": row.ExpiresAt})
		if updated.Error != nil || updated.RowsAffected > 0 {
			return updated.Error
		}
		added := db.Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
		if added.Error != nil || added.RowsAffected > 0 {
			return added.Error
		}
		var found verdictRow
		if err := db.Where("subject = ?", row.Subject).Limit(1).Find(&found).Error; err != nil || found.Version >= row.Version {
			return err
		}
	}
	return fmt.Errorf("other nodes keep changing the verdict of %q", row.Subject)
}

// Verdicts implements [store.Counters].
func (s *Store) Verdicts(ctx context.Context, since int64) ([]store.Verdict, error) {
	var rows []verdictRow
	err := s.inBackground(ctx, func(db *gorm.DB) error { return db.Where("version >= ?", since).Find(&rows).Error })
	if err != nil {
		return nil, fmt.Errorf("gormstore: read verdicts: %w", err)
	}
	verdicts := make([]store.Verdict, 0, len(rows))
	for _, r := range rows {
		verdicts = append(verdicts, store.Verdict(r))
	}
	return verdicts, nil
}

// DeleteExpiredCounts implements [store.Counters].
func (s *Store) DeleteExpiredCounts(ctx context.Context, now time.Time) error {
	_, err := s.deleteExpired(ctx, counterTables(), now, math.MaxInt32)
	return err
}
