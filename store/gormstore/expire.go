package gormstore

import (
	"context"
	"slices"
	"time"
)

// requestTables are the tables that requests use. Expired rows of the first are deleted first.
func requestTables() []string { return []string{sessionTable().name, recordTable().name} }

// counterTables are the tables of [store.Counters].
func counterTables() []string { return []string{countRow{}.TableName(), verdictRow{}.TableName()} }

// historyTables are the tables of [store.History].
func historyTables() []string { return []string{totalRow{}.TableName(), entryRow{}.TableName()} }

// tablesThatExpire are all tables whose expired rows are deleted.
func tablesThatExpire() []string {
	return slices.Concat(requestTables(), counterTables(), historyTables())
}

// DeleteExpired implements [store.Store].
func (s *Store) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	return s.deleteExpired(ctx, requestTables(), now, limit)
}

// DeleteExpiredHistory implements [store.History].
func (s *Store) DeleteExpiredHistory(ctx context.Context, now time.Time, limit int) (int, error) {
	return s.deleteExpired(ctx, historyTables(), now, limit)
}

// deleteExpired deletes at most limit rows, table by table, those that expired first. It returns
// the number of rows.
func (s *Store) deleteExpired(ctx context.Context, tables []string, now time.Time, limit int) (int, error) {
	if err := s.writer.expectNoHostLock(ctx, true); err != nil {
		return 0, err
	}
	deleted := 0
	for _, table := range tables {
		if deleted >= limit {
			break
		}
		err := s.retry(ctx, func() error {
			d, err := s.prepare(ctx, s.reader)
			if err != nil {
				return s.fail("prepare", err, false)
			}
			result, err := s.writer.db.ExecContext(s.within(ctx), d.expire(table), now.UnixMilli(), limit-deleted)
			if err != nil {
				return s.fail("delete expired rows of "+table, err, false)
			}
			n, err := result.RowsAffected()
			deleted += int(n)
			return err
		})
		if err != nil {
			return deleted, err
		}
	}
	return deleted, ctx.Err()
}

// within returns the context for a caller's statements: see background.
func (s *Store) within(ctx context.Context) context.Context {
	if s.db.Name() == dialectSQLite {
		return context.WithoutCancel(ctx)
	}
	return ctx
}
