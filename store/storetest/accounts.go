package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"example.com/threepid/store"
)

func accountsChecks() []accountsCheck {
	return []accountsCheck{
		{"RoundTrip", checkAssociationRoundTrip},
		{"NotFound", checkNobody},
		{"SameUserAgain", checkAgain},
		{"NeverReassigned", checkReassign},
		{"Dissociate", checkDissociate},
		{"ListIsOldestFirst", checkList},
		{"UsersAreComparedByteByByte", checkUserBytes},
		{"ConcurrentAssociation", checkConcurrentAssociation},
	}
}

const number = "447400123456"

func expectOwner(ctx context.Context, a store.Accounts, msisdn, want string) error {
	got, err := a.Owner(ctx, msisdn)
	if err != nil || got != want {
		return fmt.Errorf("from Owner: %.40q, error %w; want %.40q", got, orNone(err), want)
	}
	return nil
}

func expectList(ctx context.Context, a store.Accounts, userID string, want ...store.Association) error {
	got, err := a.List(ctx, userID)
	if err != nil {
		return fmt.Errorf("from List: %w", err)
	}
	if len(got) != len(want) {
		return fmt.Errorf("from List: %d associations, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("from List: association %d is %+v, want %+v", i, got[i], want[i])
		}
	}
	return nil
}

func checkAssociationRoundTrip(ctx context.Context, a store.Accounts) error {
	longest := store.Association{
		UserID: strings.Repeat("u", 255), MSISDN: strings.Repeat("9", 20), ValidatedAt: 1_700_000_000_001, AddedAt: 1_700_000_000_002,
	}
	odd := store.Association{UserID: "@é'中\"🙂\\%_:example.com", MSISDN: "1", ValidatedAt: 3, AddedAt: 4}
	for _, one := range []store.Association{longest, odd} {
		if err := a.Associate(ctx, one); err != nil {
			return fmt.Errorf("from Associate: %w", err)
		}
		if err := errors.Join(expectOwner(ctx, a, one.MSISDN, one.UserID), expectList(ctx, a, one.UserID, one)); err != nil {
			return err
		}
	}
	return nil
}

func checkNobody(ctx context.Context, a store.Accounts) error {
	_, err := a.Owner(ctx, number)
	return errors.Join(
		expectNotFound("Owner", err),
		expectNotFound("Dissociate", a.Dissociate(ctx, "alice", number)),
		expectList(ctx, a, "alice"),
	)
}

func checkAgain(ctx context.Context, a store.Accounts) error {
	first := store.Association{UserID: "alice", MSISDN: number, ValidatedAt: 1, AddedAt: 2}
	again := first
	again.ValidatedAt, again.AddedAt = 3, 4
	if err := a.Associate(ctx, first); err != nil {
		return fmt.Errorf("from Associate: %w", err)
	}
	if err := a.Associate(ctx, again); err != nil {
		return fmt.Errorf("from Associate, the same user again: %w", err)
	}
	return expectList(ctx, a, "alice", first)
}

func checkReassign(ctx context.Context, a store.Accounts) error {
	first := store.Association{UserID: "alice", MSISDN: number, ValidatedAt: 1, AddedAt: 2}
	if err := a.Associate(ctx, first); err != nil {
		return fmt.Errorf("from Associate: %w", err)
	}
	err := a.Associate(ctx, store.Association{UserID: "bob", MSISDN: number, ValidatedAt: 3, AddedAt: 4})
	if !errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("from Associate of another's number: got %w, want ErrInUse", orNone(err))
	}
	return errors.Join(
		expectOwner(ctx, a, number, "alice"),
		expectList(ctx, a, "alice", first),
		expectList(ctx, a, "bob"),
	)
}

func checkDissociate(ctx context.Context, a store.Accounts) error {
	keeps := store.Association{UserID: "alice", MSISDN: "1", AddedAt: 1}
	goes := store.Association{UserID: "alice", MSISDN: number, AddedAt: 2}
	if err := errors.Join(a.Associate(ctx, keeps), a.Associate(ctx, goes)); err != nil {
		return fmt.Errorf("from Associate: %w", err)
	}
	if err := expectNotFound("Dissociate by another user", a.Dissociate(ctx, "bob", number)); err != nil {
		return err
	}
	if err := expectOwner(ctx, a, number, "alice"); err != nil {
		return fmt.Errorf("after another tried to dissociate: %w", err)
	}
	if err := a.Dissociate(ctx, "alice", number); err != nil {
		return fmt.Errorf("from Dissociate: %w", err)
	}
	_, err := a.Owner(ctx, number)
	if err := errors.Join(expectNotFound("Owner", err), expectList(ctx, a, "alice", keeps)); err != nil {
		return err
	}
	if err := a.Associate(ctx, store.Association{UserID: "bob", MSISDN: number}); err != nil {
		return fmt.Errorf("from Associate of a number that is free again: %w", err)
	}
	return expectOwner(ctx, a, number, "bob")
}

func checkList(ctx context.Context, a store.Accounts) error {
	// Neither the order of the numbers nor that of the calls is the order wanted.
	newest := store.Association{UserID: "alice", MSISDN: "2", ValidatedAt: 1, AddedAt: 30}
	oldest := store.Association{UserID: "alice", MSISDN: "3", ValidatedAt: 3, AddedAt: 10}
	middle := store.Association{UserID: "alice", MSISDN: "1", ValidatedAt: 2, AddedAt: 20}
	other := store.Association{UserID: "bob", MSISDN: "4", AddedAt: 15}
	for _, one := range []store.Association{newest, oldest, middle, other} {
		if err := a.Associate(ctx, one); err != nil {
			return fmt.Errorf("from Associate: %w", err)
		}
	}
	return expectList(ctx, a, "alice", oldest, middle, newest)
}

func checkUserBytes(ctx context.Context, a store.Accounts) error {
	lower := store.Association{UserID: "alice", MSISDN: number, AddedAt: 1}
	if err := a.Associate(ctx, lower); err != nil {
		return fmt.Errorf("from Associate: %w", err)
	}
	err := a.Associate(ctx, store.Association{UserID: "Alice", MSISDN: number, AddedAt: 2})
	if !errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("from Associate by a user whose ID differs in case: got %w, want ErrInUse", orNone(err))
	}
	return errors.Join(
		expectNotFound("Dissociate by a user whose ID differs in case", a.Dissociate(ctx, "Alice", number)),
		expectList(ctx, a, "Alice"),
		expectList(ctx, a, "alice", lower),
	)
}

func checkConcurrentAssociation(ctx context.Context, a store.Accounts) error {
	const users = 50
	var winners atomic.Int64
	var winner atomic.Value
	err := together(users, func(i int) error {
		user := fmt.Sprintf("user%d", i)
		err := a.Associate(ctx, store.Association{UserID: user, MSISDN: number, AddedAt: int64(i)})
		if errors.Is(err, store.ErrInUse) {
			return nil
		}
		if err == nil {
			winners.Add(1)
			winner.Store(user)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("from Associate by %d users at once: %w", users, err)
	}
	if n := winners.Load(); n != 1 {
		return fmt.Errorf("%d of %d users associated one number at once; want 1", n, users)
	}
	name, _ := winner.Load().(string)
	return expectOwner(ctx, a, number, name)
}
