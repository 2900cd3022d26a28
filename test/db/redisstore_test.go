package db_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/threepid/store"
)

// redisStore is the recipe in docs/RECIPES.md for a store that does not lock. WATCH makes the
// transaction fail if a row that the unit names has changed, has appeared or has been deleted. It
// is durable with appendonly yes and appendfsync always.
//
// Sessions and records are JSON, at prefix + "s:" or "r:" and their key. prefix + "i:" and a sid is
// the key of the sid's session, and prefix + "x" is a set of all rows by their expiry.
type redisStore struct {
	client *redis.Client
	prefix string
}

func (s *redisStore) session(key store.Key) string { return s.prefix + "s:" + key.String() }
func (s *redisStore) record(key store.Key) string  { return s.prefix + "r:" + key.String() }
func (s *redisStore) sid(sid string) string        { return s.prefix + "i:" + sid }

func (s *redisStore) View(ctx context.Context, names store.Names) (rows store.Rows, err error) {
	err = s.watch(ctx, names, func(tx *redis.Tx, key store.Key) error {
		if rows, err = s.load(ctx, tx, key, names); err != nil {
			return err
		}
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Ping(ctx).Err() })
		return err
	})
	return rows, err
}

func (s *redisStore) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	return store.Follow(names, func(names store.Names) error {
		return s.watch(ctx, names, func(tx *redis.Tx, key store.Key) error {
			before, err := s.load(ctx, tx, key, names)
			if err != nil {
				return err
			}
			after, _, err := store.Apply(names, before, change)
			if err != nil {
				return err
			}
			if err := s.claimSID(ctx, tx, after.Session); err != nil {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return s.put(ctx, p, before, after) })
			return err
		})
	})
}

// watch runs fn, which ends with a transaction, until no row that the unit names has changed in the
// meantime. key is the key of the session.
func (s *redisStore) watch(ctx context.Context, names store.Names, fn func(tx *redis.Tx, key store.Key) error) error {
	for {
		err := s.client.Watch(ctx, func(tx *redis.Tx) error {
			key, watched := names.Session.Key, []string{}
			if sid := names.Session.SID; sid != "" {
				if err := tx.Watch(ctx, s.sid(sid)).Err(); err != nil {
					return err
				}
				text, err := tx.Get(ctx, s.sid(sid)).Bytes()
				if err == nil {
					err = key.UnmarshalText(text)
				}
				if err != nil && !errors.Is(err, redis.Nil) {
					return err
				}
			}
			watched = append(watched, s.session(key))
			for _, record := range names.Records {
				watched = append(watched, s.record(record))
			}
			if err := tx.Watch(ctx, watched...).Err(); err != nil {
				return err
			}
			return fn(tx, key)
		})
		if !errors.Is(err, redis.TxFailedErr) {
			return err
		}
		time.Sleep(rand.N(2 * time.Millisecond))
	}
}

func (s *redisStore) load(ctx context.Context, tx *redis.Tx, key store.Key, names store.Names) (rows store.Rows, err error) {
	if err := get(ctx, tx, s.session(key), &rows.Session); err != nil {
		return rows, err
	}
	rows.Records = make([]store.Record, len(names.Records))
	for i, key := range names.Records {
		rows.Records[i].Key = key
		if err := get(ctx, tx, s.record(key), &rows.Records[i]); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func get(ctx context.Context, tx *redis.Tx, name string, row any) error {
	text, err := tx.Get(ctx, name).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return errors.Join(err, json.Unmarshal(text, row))
}

// claimSID checks that no other session has the sid, and watches that none gets it.
func (s *redisStore) claimSID(ctx context.Context, tx *redis.Tx, session store.Session) error {
	if session.SID == "" {
		return nil
	}
	if err := tx.Watch(ctx, s.sid(session.SID)).Err(); err != nil {
		return err
	}
	owner, err := tx.Get(ctx, s.sid(session.SID)).Result()
	if errors.Is(err, redis.Nil) || err == nil && owner == session.Key.String() {
		return nil
	}
	return errors.Join(err, errors.New("another session has that sid"))
}

func (s *redisStore) put(ctx context.Context, p redis.Pipeliner, before, after store.Rows) error {
	if after.Session.SID != "" {
		if before.Session.SID != "" {
			p.Del(ctx, s.sid(before.Session.SID))
		}
		p.Set(ctx, s.sid(after.Session.SID), after.Session.Key.String(), 0)
		s.set(ctx, p, s.session(after.Session.Key), after.Session, after.Session.ExpiresAt)
	}
	for _, record := range after.Records {
		if record == (store.Record{Key: record.Key}) {
			p.Del(ctx, s.record(record.Key))
			p.ZRem(ctx, s.prefix+"x", s.record(record.Key))
			continue
		}
		s.set(ctx, p, s.record(record.Key), record, record.ExpiresAt)
	}
	return nil
}

func (s *redisStore) set(ctx context.Context, p redis.Pipeliner, name string, row any, expiresAt int64) {
	text, _ := json.Marshal(row) // strings and numbers only
	p.Set(ctx, name, text, 0)
	p.ZAdd(ctx, s.prefix+"x", redis.Z{Score: float64(expiresAt), Member: name})
}

func (s *redisStore) DeleteExpired(ctx context.Context, now time.Time, limit int) (deleted int, err error) {
	due, err := s.client.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: s.prefix + "x", Start: "-inf", Stop: strconv.FormatInt(now.UnixMilli(), 10), ByScore: true, Count: int64(limit),
	}).Result()
	for _, name := range due {
		var row store.Session // for a record it contains the expiry
		err := s.client.Watch(ctx, func(tx *redis.Tx) error {
			if err := get(ctx, tx, name, &row); err != nil || row.ExpiresAt > now.UnixMilli() {
				return err
			}
			_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
				if strings.HasPrefix(name, s.prefix+"s:") {
					p.Del(ctx, s.sid(row.SID))
				}
				p.Del(ctx, name)
				return p.ZRem(ctx, s.prefix+"x", name).Err()
			})
			if err == nil {
				deleted++
			}
			return err
		}, name)
		if err != nil && !errors.Is(err, redis.TxFailedErr) { // if it has changed, the next call tries again
			return deleted, fmt.Errorf("delete what has expired: %w", err)
		}
	}
	return deleted, err
}
