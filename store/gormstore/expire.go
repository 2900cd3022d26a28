package gormstore

import (
	"context"
	"slices"
	"time"

	"gorm.io/gorm"
)

// deleteAtOnce bounds the keys in one DELETE: databases bound the parameters of
// a statement.
const deleteAtOnce = 500

// expiring is a table whose rows expire, with its primary key.
type expiring struct {
	row any
	key string
}

// DeleteExpired implements [store.Store]. The sessions that expired first go
// first, then the buckets.
//
// The keys are looked up before, not in a sub-select: MySQL takes no LIMIT
// there. So their expiry is tested again where they are deleted. And when there
// is nothing to delete, nobody waits for the write lock.
func (s *Store) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	if limit <= 0 {
		return 0, ctx.Err()
	}
	found, deleted, err := sweep[string](ctx, s, expiring{&sessionRow{}, "sid"}, now, limit)
	if err != nil || found == limit {
		return deleted, err
	}
	_, more, err := sweep[[]byte](ctx, s, expiring{&bucketRow{}, "bucket_key"}, now, limit-found)
	return deleted + more, err
}

// sweep deletes at most limit rows of a table. It tells how many it found, and
// how many it deleted: some may have been prolonged meanwhile.
func sweep[K string | []byte](ctx context.Context, s *Store, table expiring, now time.Time, limit int) (found, deleted int, err error) {
	keys, err := expired[K](ctx, s, table, now, limit)
	if err != nil || len(keys) == 0 {
		return 0, 0, err
	}
	err = s.write(ctx, func(u *unit) error {
		deleted = 0
		for chunk := range slices.Chunk(keys, deleteAtOnce) {
			n, err := u.execText("delete what has expired", s.text(func(db *gorm.DB) *gorm.DB {
				return db.Where("expires_at <= ? AND "+table.key+" IN ?", now.UnixMilli(), chunk).Delete(table.row)
			}))
			if err != nil {
				return err
			}
			deleted += n
		}
		return nil
	})
	if err != nil {
		return 0, 0, err
	}
	return len(keys), deleted, nil
}

// expired returns the keys of rows that have expired.
func expired[K string | []byte](ctx context.Context, s *Store, table expiring, now time.Time, limit int) (keys []K, err error) {
	err = s.read(ctx, func(u *unit) error {
		keys = nil
		return u.eachText("find what has expired", s.text(func(db *gorm.DB) *gorm.DB {
			return db.Model(table.row).Select(table.key).Where("expires_at <= ?", now.UnixMilli()).
				Order("expires_at").Limit(limit).Find(&[]map[string]any{})
		}), func(row scanner) error {
			var key K
			if err := row.Scan(&key); err != nil {
				return err
			}
			keys = append(keys, key)
			return nil
		})
	})
	return keys, err
}
