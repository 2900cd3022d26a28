package gormstore

import (
	"context"
	"database/sql"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"example.com/threepid/store"
)

var _ store.History = (*Store)(nil)

// addAtOnce bounds the entries in one INSERT, as putAtOnce does for totals. It is higher because
// there are many entries, and each INSERT is a commit of its own.
const addAtOnce = 1000

// totalRow is the table threepid_totals. The key begins with the time, so that reading some hours
// does not read the rest of the table.
type totalRow struct {
	StartedAt int64  `gorm:"column:started_at;primaryKey;autoIncrement:false"`
	Name      string `gorm:"column:name;primaryKey;size:160"`
	Node      string `gorm:"column:node;primaryKey;size:32"`
	Count     int64  `gorm:"column:counted;not null"`
	Millis    int64  `gorm:"column:millis;not null"`
	Units     int64  `gorm:"column:units;not null"`
	ExpiresAt int64  `gorm:"column:expires_at;not null;index:threepid_totals_expires_at"`
}

// TableName implements GORM's tabler.
func (totalRow) TableName() string { return "threepid_totals" }

// entryRow is the table threepid_entries. IDs are ordered by time, so that new rows are adjacent.
type entryRow struct {
	ID        string `gorm:"column:id;primaryKey;size:64"`
	Subject   []byte `gorm:"column:subject;size:32;not null;index:threepid_entries_subject,priority:1"`
	At        int64  `gorm:"column:happened_at;not null;index:threepid_entries_subject,priority:2"`
	Ref       []byte `gorm:"column:ref;size:32;index:threepid_entries_ref"`
	Text      string `gorm:"column:content;size:4000;not null"`
	ExpiresAt int64  `gorm:"column:expires_at;not null;index:threepid_entries_expires_at"`
}

// TableName implements GORM's tabler.
func (entryRow) TableName() string { return "threepid_entries" }

// PutTotals implements [store.History].
func (s *Store) PutTotals(ctx context.Context, totals []store.Total) error {
	rows := make([]totalRow, 0, len(totals))
	for _, t := range totals {
		rows = append(rows, totalRow{t.At, t.Name, t.Node, t.Count, t.Millis, t.Units, t.ExpiresAt})
	}
	if len(rows) == 0 {
		return ctx.Err()
	}
	replace := clause.OnConflict{
		Columns:   []clause.Column{{Name: "started_at"}, {Name: "name"}, {Name: "node"}},
		DoUpdates: clause.AssignmentColumns([]string{"counted", "millis", "units", "expires_at"}),
	}
	err := s.inBackground(ctx, func(db *gorm.DB) error { return db.Clauses(replace).CreateInBatches(rows, putAtOnce).Error })
	if err != nil {
		return fmt.Errorf("gormstore: put totals: %w", err)
	}
	return nil
}

// Totals implements [store.History].
func (s *Store) Totals(ctx context.Context, from, to int64) ([]store.Total, error) {
	var totals []store.Total
	err := s.readHistory(ctx, "sum totals", func(rows *sql.Rows) error {
		var t store.Total
		err := rows.Scan(&t.At, &t.Name, &t.Count, &t.Millis, &t.Units)
		totals = append(totals, t)
		return err
	}, "SELECT started_at, name, SUM(counted), SUM(millis), SUM(units) FROM threepid_totals"+
		" WHERE started_at >= ? AND started_at < ? GROUP BY started_at, name", from, to)
	return totals, err
}

// AddEntries implements [store.History].
func (s *Store) AddEntries(ctx context.Context, entries []store.Entry) error {
	rows := make([]entryRow, 0, len(entries))
	for _, e := range entries {
		row := entryRow{ID: e.ID, Subject: e.Subject[:], At: e.At, Text: e.Text, ExpiresAt: e.ExpiresAt}
		if e.Ref != (store.Key{}) {
			row.Ref = e.Ref[:]
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return ctx.Err()
	}
	once := clause.OnConflict{DoNothing: true}
	err := s.inBackground(ctx, func(db *gorm.DB) error { return db.Clauses(once).CreateInBatches(rows, addAtOnce).Error })
	if err != nil {
		return fmt.Errorf("gormstore: add entries: %w", err)
	}
	return nil
}

// Entries implements [store.History].
func (s *Store) Entries(ctx context.Context, subject store.Key, since int64, limit int) ([]store.Entry, error) {
	return s.entries(ctx, "subject = ? AND happened_at >= ?", subject[:], since, limit)
}

// EntriesByRef implements [store.History].
func (s *Store) EntriesByRef(ctx context.Context, ref store.Key, limit int) ([]store.Entry, error) {
	return s.entries(ctx, "ref = ?", ref[:], limit)
}

func (s *Store) entries(ctx context.Context, condition string, args ...any) ([]store.Entry, error) {
	var entries []store.Entry
	err := s.readHistory(ctx, "read entries", func(rows *sql.Rows) error {
		var e store.Entry
		var subject, ref []byte
		err := rows.Scan(&e.ID, &subject, &e.At, &ref, &e.Text, &e.ExpiresAt)
		copy(e.Subject[:], subject)
		copy(e.Ref[:], ref)
		entries = append(entries, e)
		return err
	}, "SELECT id, subject, happened_at, ref, content, expires_at FROM threepid_entries WHERE "+condition+
		" ORDER BY happened_at DESC, id DESC LIMIT ?", args...)
	return entries, err
}

// readHistory runs a query, and calls scan for each row.
func (s *Store) readHistory(ctx context.Context, doing string, scan func(*sql.Rows) error, text string, args ...any) error {
	if err := s.reader.await(ctx, false); err != nil {
		return err
	}
	return s.fail(doing, each(s.within(ctx), s.reader.db, scan, s.raw(text), args...), false)
}

// DeleteEntries implements [store.History].
func (s *Store) DeleteEntries(ctx context.Context, subject store.Key) error {
	_, err := s.exec(ctx, "delete entries", "DELETE FROM threepid_entries WHERE subject = ?", subject[:])
	return err
}

// SessionsOf implements [store.History]. It reads the complete table: an index by number would be
// one more page to write for each session.
func (s *Store) SessionsOf(ctx context.Context, msisdn string, limit int) ([]store.Session, error) {
	var sids []string
	err := s.readHistory(ctx, "look for sessions", func(rows *sql.Rows) error {
		var sid string
		err := rows.Scan(&sid)
		sids = append(sids, sid)
		return err
	}, "SELECT sid FROM threepid_sessions WHERE msisdn = ? LIMIT ?", msisdn, limit)
	var sessions []store.Session
	for _, sid := range sids {
		rows, viewErr := s.View(ctx, store.Names{Session: store.SessionRef{SID: sid}})
		if viewErr != nil {
			return nil, viewErr
		}
		if rows.Session.SID != "" && rows.Session.MSISDN == msisdn {
			sessions = append(sessions, rows.Session)
		}
	}
	return sessions, err
}
