package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
)

// defaultsStore is a store as one writes it who has read GORM's guide and
// changes no default of GORM, of its driver or of SQLite. Its commits are less
// durable than those of the others: that driver's default is a rollback journal
// with synchronous=NORMAL.
type defaultsStore struct {
	store.OwnerFunc
	db *gorm.DB
}

func openDefaults(path string) (*defaultsStore, error) {
	db, err := gorm.Open(defaultDialector(path), &gorm.Config{Logger: logger.Discard}) // GORM's logs every missing row
	if err != nil {
		return nil, err
	}
	s := &defaultsStore{db: db}
	s.OwnerFunc = s.owner
	return s, db.AutoMigrate(&session{}, &association{})
}

func (s *defaultsStore) Close() error {
	pool, err := s.db.DB()
	if err != nil {
		return err
	}
	return pool.Close()
}

func (s *defaultsStore) owner(ctx context.Context, msisdn string) (string, error) {
	var a association
	err := s.db.WithContext(ctx).First(&a, "msisdn = ?", msisdn).Error
	return a.UserID, notFound(err)
}

func (s *defaultsStore) View(ctx context.Context, fn func(store.Tx) error) error {
	return s.transaction(ctx, fn)
}

func (s *defaultsStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.transaction(ctx, fn)
}

// transaction tries again when SQLite refuses: a transaction that begins by
// reading is refused whenever another one has written meanwhile.
func (s *defaultsStore) transaction(ctx context.Context, fn func(store.Tx) error) error {
	for {
		err := s.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error { return fn(defaultsTx{tx}) })
		if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "database is locked") {
			return err
		}
	}
}

func (s *defaultsStore) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	expired := s.db.Model(&session{}).Select("key").Where("expires_at <= ?", now.UnixMilli()).Limit(limit)
	done := s.db.WithContext(ctx).Where("key IN (?)", expired).Delete(&session{})
	return int(done.RowsAffected), done.Error
}

type defaultsTx struct{ db *gorm.DB }

func (t defaultsTx) SessionByKey(key store.Key) (store.Session, error) {
	var row session
	err := t.db.First(&row, "key = ?", key[:]).Error
	return row.session(), notFound(err)
}

func (t defaultsTx) SessionBySID(sid string) (store.Session, error) {
	var row session
	err := t.db.First(&row, "sid = ?", sid).Error
	return row.session(), notFound(err)
}

func (t defaultsTx) PutSession(s store.Session) error {
	row := rowOf(&s)
	return t.db.Save(&row).Error
}

func notFound(err error) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return store.ErrNotFound
	}
	return err
}
