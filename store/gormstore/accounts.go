package gormstore

import (
	"context"

	"example.com/threepid/store"
)

// Owner implements [store.Accounts].
func (s *Store) Owner(ctx context.Context, msisdn string) (userID string, err error) {
	err = s.read(ctx, func(u *unit) error {
		a, err := u.association(findOwner, msisdn)
		userID = a.UserID
		return err
	})
	if err != nil {
		return "", err
	}
	return userID, nil
}

// Associate implements [store.Accounts]. It inserts the association unless there
// is one for the number, and reads whose that is: this one or an older one.
func (s *Store) Associate(ctx context.Context, a store.Association) error {
	return s.write(ctx, func(u *unit) error {
		const doing = "associate number"
		if err := u.exec(doing, insertAssociation, a.MSISDN, a.UserID, a.ValidatedAt, a.AddedAt); err != nil {
			return err
		}
		owner, found, err := u.lookupAssociation(lockOwner, a.MSISDN)
		switch {
		case err != nil:
			return err
		case !found: // the older one was deleted between the two statements
			return u.fail(doing, errChanged)
		case owner.UserID != a.UserID:
			return store.ErrInUse
		}
		return nil
	})
}

// Dissociate implements [store.Accounts].
func (s *Store) Dissociate(ctx context.Context, userID, msisdn string) error {
	return s.write(ctx, func(u *unit) error {
		// Compared here and not in the WHERE: a collation may take one case for
		// the other.
		a, err := u.association(lockOwner, msisdn)
		if err != nil {
			return err
		}
		if a.UserID != userID {
			return store.ErrNotFound
		}
		return u.exec("dissociate number", deleteAssociation, msisdn)
	})
}

// List implements [store.Accounts].
func (s *Store) List(ctx context.Context, userID string) (list []store.Association, err error) {
	err = s.read(ctx, func(u *unit) error {
		list = nil
		return u.each("list numbers", func(row scanner) error {
			a, err := scanAssociation(row)
			if err == nil && a.UserID == userID {
				list = append(list, a)
			}
			return err
		}, listNumbers, userID)
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (u *unit) association(q query, msisdn string) (store.Association, error) {
	a, found, err := u.lookupAssociation(q, msisdn)
	if err == nil && !found {
		err = store.ErrNotFound
	}
	return a, err
}

func (u *unit) lookupAssociation(q query, msisdn string) (a store.Association, found bool, err error) {
	err = u.each("read association", func(row scanner) (err error) {
		found = true
		a, err = scanAssociation(row)
		return err
	}, q, msisdn)
	return a, found, err
}
