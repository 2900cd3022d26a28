package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"gorm.io/gorm"

	"example.com/threepid/store"
)

// Owner implements [store.Accounts].
func (s *Store) Owner(ctx context.Context, msisdn string) (userID string, err error) {
	list, err := s.associations(ctx, s.reader, "msisdn", msisdn)
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return "", err
	}
	return list[0].UserID, nil
}

// Associate implements [store.Accounts]. If the number is associated already, the INSERT does
// nothing: an error would put the number into the server's log.
func (s *Store) Associate(ctx context.Context, a store.Association) error {
	unless := " ON CONFLICT (msisdn) DO NOTHING"
	if s.db.Name() == dialectMySQL {
		unless = " ON DUPLICATE KEY UPDATE msisdn = msisdn"
	}
	for range sharedTries {
		_, err := s.exec(ctx, "associate number", "INSERT INTO threepid_associations (msisdn, user_id, validated_at, added_at) VALUES (?, ?, ?, ?)"+unless,
			a.MSISDN, a.UserID, a.ValidatedAt, a.AddedAt)
		if err != nil {
			return err
		}
		list, err := s.associations(ctx, s.writer, "msisdn", a.MSISDN)
		switch {
		case err != nil:
			return err
		case len(list) > 0 && list[0].UserID == a.UserID:
			return nil
		case len(list) > 0:
			return store.ErrInUse
		}
	}
	return errors.New("gormstore: associate number: it is dissociated by others as often as it is associated")
}

// Dissociate implements [store.Accounts].
func (s *Store) Dissociate(ctx context.Context, userID, msisdn string) error {
	// The user is compared here as well, because a collation may treat two IDs as equal.
	list, err := s.associations(ctx, s.writer, "msisdn", msisdn)
	if err == nil && (len(list) == 0 || list[0].UserID != userID) {
		err = store.ErrNotFound
	}
	if err != nil {
		return err
	}
	n, err := s.exec(ctx, "dissociate number", "DELETE FROM threepid_associations WHERE msisdn = ? AND user_id = ?", msisdn, userID)
	if err == nil && n == 0 {
		err = store.ErrNotFound // of several concurrent calls, one succeeds
	}
	return err
}

// List implements [store.Accounts].
func (s *Store) List(ctx context.Context, userID string) (list []store.Association, err error) {
	return s.associations(ctx, s.reader, "user_id", userID)
}

// associations returns the associations whose column has exactly that value, oldest first.
func (s *Store) associations(ctx context.Context, p *pool, column, value string) (list []store.Association, err error) {
	if err := p.await(ctx, false); err != nil {
		return nil, err
	}
	text := s.raw("SELECT msisdn, user_id, validated_at, added_at FROM threepid_associations WHERE " + column + " = ? ORDER BY added_at, msisdn")
	err = s.retry(ctx, func() error {
		list = nil
		return s.fail("read associations", each(s.within(ctx), p.db, func(rows *sql.Rows) error {
			var a store.Association
			err := rows.Scan(&a.MSISDN, &a.UserID, &a.ValidatedAt, &a.AddedAt)
			if a.MSISDN == value || a.UserID == value {
				list = append(list, a)
			}
			return err
		}, text, value), false)
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// exec runs a statement that writes, and returns the number of rows affected.
func (s *Store) exec(ctx context.Context, doing, text string, args ...any) (n int64, err error) {
	if err := s.writer.await(ctx, true); err != nil {
		return 0, err
	}
	err = s.retry(ctx, func() error {
		result, err := s.writer.db.ExecContext(s.within(ctx), s.raw(text), args...)
		if err == nil {
			n, err = result.RowsAffected()
		}
		return s.fail(doing, err, true)
	})
	return n, err
}

// raw replaces the question marks with the dialect's own placeholders.
func (s *Store) raw(text string) string {
	return s.db.Session(&gorm.Session{DryRun: true}).Raw(text, make([]any, strings.Count(text, "?"))...).Statement.SQL.String()
}
