package gormstore

import (
	"context"
	"time"
)

// DeleteExpired implements [store.Store]. The sessions that expired first are
// deleted first, then the records.
func (s *Store) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	deleted := 0
	for _, t := range []table{sessionTable(), recordTable()} {
		if deleted >= limit {
			break
		}
		err := s.retry(ctx, func() error {
			d, err := s.prepare(ctx, s.reader)
			if err != nil {
				return s.fail("prepare", err, false)
			}
			result, err := s.writer.db.ExecContext(s.within(ctx), d.expire(t), now.UnixMilli(), limit-deleted)
			if err != nil {
				return s.fail("delete what has expired", err, false)
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

// within returns the context that statements of a caller run under, see background.
func (s *Store) within(ctx context.Context) context.Context {
	if s.db.Name() == dialectSQLite {
		return context.WithoutCancel(ctx)
	}
	return ctx
}
