package gormstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"example.com/threepid/store"
	"example.com/threepid/store/storetest"
)

// user is a host's table of users with a column for the phone number: each user has at most one
// number, and each number at most one user.
type user struct {
	ID               int64   `gorm:"primaryKey"`
	Name             string  `gorm:"size:255;not null;uniqueIndex"`
	Phone            *string `gorm:"size:20;uniqueIndex"`
	PhoneValidatedAt int64   `gorm:"not null;default:0"`
	PhoneAddedAt     int64   `gorm:"not null;default:0"`
}

// usersColumn is the [store.Accounts] of docs/RECIPES.md over that table. Its database is opened
// with gorm.Config.TranslateError.
type usersColumn struct{ db *gorm.DB }

func (u usersColumn) Owner(ctx context.Context, msisdn string) (string, error) {
	var one user
	err := u.db.WithContext(ctx).Where("phone = ?", msisdn).Take(&one).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return "", store.ErrNotFound
	}
	return strconv.FormatInt(one.ID, 10), err
}

// Associate changes the row only if the user has no number. This takes one statement, so that the
// second of two concurrent requests finds the row changed.
func (u usersColumn) Associate(ctx context.Context, a store.Association) error {
	changed := u.db.WithContext(ctx).Model(&user{}).Where("id = ? AND phone IS NULL", a.UserID).
		Updates(user{Phone: &a.MSISDN, PhoneValidatedAt: a.ValidatedAt, PhoneAddedAt: a.AddedAt})
	switch {
	case errors.Is(changed.Error, gorm.ErrDuplicatedKey):
		return store.ErrInUse
	case changed.Error != nil || changed.RowsAffected == 1:
		return changed.Error
	}
	var one user
	if err := u.db.WithContext(ctx).Where("id = ?", a.UserID).Take(&one).Error; err != nil {
		return fmt.Errorf("find user %s: %w", a.UserID, err)
	}
	switch {
	case one.Phone == nil:
		return errors.New("the user's number was removed at the same time; try again")
	case *one.Phone != a.MSISDN:
		return store.ErrOneNumber
	}
	return nil
}

func (u usersColumn) Dissociate(ctx context.Context, userID, msisdn string) error {
	changed := u.db.WithContext(ctx).Model(&user{}).Where("id = ? AND phone = ?", userID, msisdn).
		Updates(map[string]any{"phone": nil, "phone_validated_at": 0, "phone_added_at": 0})
	if changed.Error == nil && changed.RowsAffected == 0 {
		return store.ErrNotFound
	}
	return changed.Error
}

func (u usersColumn) List(ctx context.Context, userID string) ([]store.Association, error) {
	var found []user
	err := u.db.WithContext(ctx).Where("id = ? AND phone IS NOT NULL", userID).Find(&found).Error
	var list []store.Association
	for _, one := range found {
		list = append(list, store.Association{
			UserID: userID, MSISDN: *one.Phone, ValidatedAt: one.PhoneValidatedAt, AddedAt: one.PhoneAddedAt,
		})
	}
	return list, err
}

// hasColumn is a usersColumn that can be changed to contain a mistake.
type hasColumn interface {
	store.Accounts
	host() *gorm.DB
}

func (u usersColumn) host() *gorm.DB { return u.db }

// columnOptions returns how the checks create users.
func columnOptions() storetest.AccountsOptions {
	return storetest.AccountsOptions{
		OneNumber: true,
		CreateUser: func(ctx context.Context, a store.Accounts, name string) (string, error) {
			one := user{Name: name}
			err := a.(hasColumn).host().WithContext(ctx).Create(&one).Error
			return strconv.FormatInt(one.ID, 10), err
		},
	}
}

func openUsers(tb testing.TB) usersColumn {
	tb.Helper()
	db, err := gorm.Open(hostDialector(filepath.Join(tb.TempDir(), "host.db")), &gorm.Config{TranslateError: true, Logger: logger.Discard})
	if err != nil {
		tb.Fatal(err)
	}
	pool, err := db.DB()
	if err != nil {
		tb.Fatal(err)
	}
	pool.SetMaxOpenConns(1)
	tb.Cleanup(func() {
		if err := pool.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := db.AutoMigrate(&user{}); err != nil {
		tb.Fatal(err)
	}
	return usersColumn{db}
}

func TestAccountsInAColumn(t *testing.T) {
	t.Parallel()
	storetest.RunAccounts(t, func(tb testing.TB) store.Accounts { tb.Helper(); return openUsers(tb) }, columnOptions())
}

// spoiledColumn is a usersColumn with another Associate.
type spoiledColumn struct {
	usersColumn
	associate func(ctx context.Context, u usersColumn, a store.Association) error
}

func (s spoiledColumn) Associate(ctx context.Context, a store.Association) error {
	return s.associate(ctx, s.usersColumn, a)
}

// set changes the row without a condition.
func (u usersColumn) set(ctx context.Context, a store.Association) error {
	err := u.db.WithContext(ctx).Model(&user{}).Where("id = ?", a.UserID).
		Updates(user{Phone: &a.MSISDN, PhoneValidatedAt: a.ValidatedAt, PhoneAddedAt: a.AddedAt}).Error
	if errors.Is(err, gorm.ErrDuplicatedKey) {
		return store.ErrInUse
	}
	return err
}

// spoiledColumns are mistakes that hosts make, each with the check that finds it.
func spoiledColumns() map[string]func(ctx context.Context, u usersColumn, a store.Association) error {
	return map[string]func(ctx context.Context, u usersColumn, a store.Association) error{
		"OneNumber": func(ctx context.Context, u usersColumn, a store.Association) error {
			return u.set(ctx, a) // replaces the old number
		},
		"UnknownUser": func(ctx context.Context, u usersColumn, a store.Association) error {
			err := u.Associate(ctx, a)
			if errors.Is(err, gorm.ErrRecordNotFound) {
				return nil
			}
			return err
		},
		"ConcurrentNumbers": func(ctx context.Context, u usersColumn, a store.Association) error {
			list, err := u.List(ctx, a.UserID)
			switch {
			case err != nil:
				return err
			case len(list) > 0 && list[0].MSISDN != a.MSISDN:
				return store.ErrOneNumber
			}
			time.Sleep(20 * time.Millisecond) // so that another request runs in between
			return u.set(ctx, a)
		},
		"NeverReassigned": func(ctx context.Context, u usersColumn, a store.Association) error {
			owner, err := u.Owner(ctx, a.MSISDN)
			if err == nil {
				err = u.Dissociate(ctx, owner, a.MSISDN)
			}
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return u.Associate(ctx, a)
		},
	}
}

func TestChecksFindASpoiledColumn(t *testing.T) {
	t.Parallel()
	checks := make(map[string]storetest.AccountsCheck)
	for _, c := range storetest.AccountsChecks(columnOptions()) {
		checks[c.Name] = c
	}
	for name, associate := range spoiledColumns() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := checks[name].Run(t.Context(), func() (store.Accounts, error) {
				return spoiledColumn{openUsers(t), associate}, nil
			})
			if err == nil {
				t.Error("the check passed")
			} else {
				t.Log(err)
			}
		})
	}
}
