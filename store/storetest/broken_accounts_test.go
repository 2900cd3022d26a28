package storetest_test

import (
	"context"

	"example.com/threepid/store"
)

// brokenAccounts is an Accounts whose methods can be replaced.
type brokenAccounts struct {
	store.Accounts
	owner      func(context.Context, string) (string, error)
	associate  func(context.Context, store.Association) error
	dissociate func(context.Context, string, string) error
	list       func(context.Context, string) ([]store.Association, error)
}

func (b *brokenAccounts) Owner(ctx context.Context, msisdn string) (string, error) {
	if b.owner == nil {
		return b.Accounts.Owner(ctx, msisdn)
	}
	return b.owner(ctx, msisdn)
}

func (b *brokenAccounts) Associate(ctx context.Context, a store.Association) error {
	if b.associate == nil {
		return b.Accounts.Associate(ctx, a)
	}
	return b.associate(ctx, a)
}

func (b *brokenAccounts) Dissociate(ctx context.Context, userID, msisdn string) error {
	if b.dissociate == nil {
		return b.Accounts.Dissociate(ctx, userID, msisdn)
	}
	return b.dissociate(ctx, userID, msisdn)
}

func (b *brokenAccounts) List(ctx context.Context, userID string) ([]store.Association, error) {
	if b.list == nil {
		return b.Accounts.List(ctx, userID)
	}
	return b.list(ctx, userID)
}
