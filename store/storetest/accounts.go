package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"example.com/threepid/store"
)

// AccountsOptions describes an implementation of [store.Accounts] over a host's own table. The zero
// value is for one that accepts any user ID, and any number of phone numbers for each user.
type AccountsOptions struct {
	// CreateUser creates a user for the checks, and returns their ID. Names are unique, but some
	// differ only in case, and one has 255 bytes. It is called from many goroutines. Defaults to
	// using the name as the ID.
	CreateUser func(ctx context.Context, a store.Accounts, name string) (userID string, err error)

	// OneNumber means that a user can have only one phone number, for example because it is a
	// column of the table of users. Defaults to false.
	OneNumber bool
}

// accounts is the implementation under test.
type accounts struct {
	store.Accounts
	options AccountsOptions
}

// user creates a user with a name, and returns their ID.
func (a accounts) user(ctx context.Context, name string) (string, error) {
	if a.options.CreateUser == nil {
		return name, nil
	}
	id, err := a.options.CreateUser(ctx, a.Accounts, name)
	if err != nil {
		return "", fmt.Errorf("AccountsOptions.CreateUser(%.40q): %w", name, err)
	}
	return id, nil
}

// two creates two users.
func (a accounts) two(ctx context.Context, first, second string) (firstID, secondID string, err error) {
	firstID, err = a.user(ctx, first)
	if err == nil {
		secondID, err = a.user(ctx, second)
	}
	return firstID, secondID, err
}

func accountsChecks(o AccountsOptions) []accountsCheck {
	checks := []accountsCheck{
		{"RoundTrip", checkAssociationRoundTrip},
		{"NotFound", checkNobody},
		{"SameUserAgain", checkAgain},
		{"NeverReassigned", checkReassign},
		{"Dissociate", checkDissociate},
		{"UsersAreComparedByteByByte", checkUserBytes},
		{"ConcurrentAssociation", checkConcurrentAssociation},
	}
	if o.CreateUser != nil {
		checks = append(checks, accountsCheck{"UnknownUser", checkUnknownUser})
	}
	if o.OneNumber {
		return append(checks,
			accountsCheck{"OneNumber", checkOneNumber},
			accountsCheck{"ConcurrentNumbers", checkConcurrentNumbers},
		)
	}
	return append(checks, accountsCheck{"ListIsOldestFirst", checkList})
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

func checkAssociationRoundTrip(ctx context.Context, a accounts) error {
	longest, odd, err := a.two(ctx, strings.Repeat("u", 255), "@é'中\"🙂\\%_:example.com")
	if err != nil {
		return err
	}
	for _, one := range []store.Association{
		{UserID: longest, MSISDN: strings.Repeat("9", 20), ValidatedAt: 1_700_000_000_001, AddedAt: 1_700_000_000_002},
		{UserID: odd, MSISDN: "1", ValidatedAt: 3, AddedAt: 4},
	} {
		if err := a.Associate(ctx, one); err != nil {
			return fmt.Errorf("from Associate: %w", err)
		}
		if err := errors.Join(expectOwner(ctx, a, one.MSISDN, one.UserID), expectList(ctx, a, one.UserID, one)); err != nil {
			return err
		}
	}
	return nil
}

func checkNobody(ctx context.Context, a accounts) error {
	alice, err := a.user(ctx, "alice")
	if err != nil {
		return err
	}
	_, err = a.Owner(ctx, number)
	return errors.Join(
		expectNotFound("Owner", err),
		expectNotFound("Dissociate", a.Dissociate(ctx, alice, number)),
		expectList(ctx, a, alice),
	)
}

func checkAgain(ctx context.Context, a accounts) error {
	alice, err := a.user(ctx, "alice")
	if err != nil {
		return err
	}
	first := store.Association{UserID: alice, MSISDN: number, ValidatedAt: 1, AddedAt: 2}
	again := first
	again.ValidatedAt, again.AddedAt = 3, 4
	if err := a.Associate(ctx, first); err != nil {
		return fmt.Errorf("from Associate: %w", err)
	}
	if err := a.Associate(ctx, again); err != nil {
		return fmt.Errorf("from Associate, the same user again: %w", err)
	}
	return expectList(ctx, a, alice, first)
}

func checkReassign(ctx context.Context, a accounts) error {
	alice, bob, err := a.two(ctx, "alice", "bob")
	if err != nil {
		return err
	}
	first := store.Association{UserID: alice, MSISDN: number, ValidatedAt: 1, AddedAt: 2}
	if err := a.Associate(ctx, first); err != nil {
		return fmt.Errorf("from Associate: %w", err)
	}
	err = a.Associate(ctx, store.Association{UserID: bob, MSISDN: number, ValidatedAt: 3, AddedAt: 4})
	if !errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("from Associate of another's number: got %w, want ErrInUse", orNone(err))
	}
	return errors.Join(
		expectOwner(ctx, a, number, alice),
		expectList(ctx, a, alice, first),
		expectList(ctx, a, bob),
	)
}

func checkDissociate(ctx context.Context, a accounts) error {
	alice, bob, err := a.two(ctx, "alice", "bob")
	if err != nil {
		return err
	}
	var kept []store.Association
	if !a.options.OneNumber {
		kept = append(kept, store.Association{UserID: alice, MSISDN: "1", AddedAt: 1})
	}
	for _, one := range append(kept, store.Association{UserID: alice, MSISDN: number, AddedAt: 2}) {
		if err := a.Associate(ctx, one); err != nil {
			return fmt.Errorf("from Associate: %w", err)
		}
	}
	if err := expectNotFound("Dissociate by another user", a.Dissociate(ctx, bob, number)); err != nil {
		return err
	}
	if err := expectOwner(ctx, a, number, alice); err != nil {
		return fmt.Errorf("after another tried to dissociate: %w", err)
	}
	if err := a.Dissociate(ctx, alice, number); err != nil {
		return fmt.Errorf("from Dissociate: %w", err)
	}
	_, err = a.Owner(ctx, number)
	if err := errors.Join(expectNotFound("Owner", err), expectList(ctx, a, alice, kept...)); err != nil {
		return err
	}
	if err := a.Associate(ctx, store.Association{UserID: bob, MSISDN: number}); err != nil {
		return fmt.Errorf("from Associate of a number that is free again: %w", err)
	}
	return expectOwner(ctx, a, number, bob)
}

func checkList(ctx context.Context, a accounts) error {
	alice, bob, err := a.two(ctx, "alice", "bob")
	if err != nil {
		return err
	}
	// The list must be ordered by time, and neither by number nor by call.
	newest := store.Association{UserID: alice, MSISDN: "2", ValidatedAt: 1, AddedAt: 30}
	oldest := store.Association{UserID: alice, MSISDN: "3", ValidatedAt: 3, AddedAt: 10}
	middle := store.Association{UserID: alice, MSISDN: "1", ValidatedAt: 2, AddedAt: 20}
	other := store.Association{UserID: bob, MSISDN: "4", AddedAt: 15}
	for _, one := range []store.Association{newest, oldest, middle, other} {
		if err := a.Associate(ctx, one); err != nil {
			return fmt.Errorf("from Associate: %w", err)
		}
	}
	return expectList(ctx, a, alice, oldest, middle, newest)
}

func checkUserBytes(ctx context.Context, a accounts) error {
	alice, capital, err := a.two(ctx, "alice", "Alice")
	if err != nil {
		return err
	}
	lower := store.Association{UserID: alice, MSISDN: number, AddedAt: 1}
	if err := a.Associate(ctx, lower); err != nil {
		return fmt.Errorf("from Associate: %w", err)
	}
	err = a.Associate(ctx, store.Association{UserID: capital, MSISDN: number, AddedAt: 2})
	if !errors.Is(err, store.ErrInUse) {
		return fmt.Errorf("from Associate by a user whose name differs in case: got %w, want ErrInUse", orNone(err))
	}
	return errors.Join(
		expectNotFound("Dissociate by a user whose name differs in case", a.Dissociate(ctx, capital, number)),
		expectList(ctx, a, capital),
		expectList(ctx, a, alice, lower),
	)
}

func checkConcurrentAssociation(ctx context.Context, a accounts) error {
	const users = 50
	var winners atomic.Int64
	var winner atomic.Value
	err := together(users, func(i int) error {
		user, err := a.user(ctx, fmt.Sprintf("user%d", i))
		if err != nil {
			return err
		}
		err = a.Associate(ctx, store.Association{UserID: user, MSISDN: number, AddedAt: int64(i)})
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

func checkUnknownUser(ctx context.Context, a accounts) error {
	if err := a.Associate(ctx, store.Association{UserID: "nobody", MSISDN: number}); err == nil {
		return errors.New("from Associate for a user that does not exist: got no error")
	}
	_, err := a.Owner(ctx, number)
	return expectNotFound("Owner", err)
}

func checkOneNumber(ctx context.Context, a accounts) error {
	alice, err := a.user(ctx, "alice")
	if err != nil {
		return err
	}
	first := store.Association{UserID: alice, MSISDN: "1", ValidatedAt: 1, AddedAt: 2}
	second := store.Association{UserID: alice, MSISDN: number, ValidatedAt: 3, AddedAt: 4}
	if err := a.Associate(ctx, first); err != nil {
		return fmt.Errorf("from Associate: %w", err)
	}
	if err := a.Associate(ctx, second); !errors.Is(err, store.ErrOneNumber) {
		return fmt.Errorf("from Associate of a second number: got %w, want ErrOneNumber", orNone(err))
	}
	_, err = a.Owner(ctx, number)
	if err := errors.Join(expectNotFound("Owner", err), expectList(ctx, a, alice, first)); err != nil {
		return fmt.Errorf("after the second number was refused: %w", err)
	}
	if err := a.Dissociate(ctx, alice, first.MSISDN); err != nil {
		return fmt.Errorf("from Dissociate: %w", err)
	}
	if err := a.Associate(ctx, second); err != nil {
		return fmt.Errorf("from Associate, after the first number was removed: %w", err)
	}
	return expectList(ctx, a, alice, second)
}

// checkConcurrentNumbers associates many numbers with one user concurrently.
func checkConcurrentNumbers(ctx context.Context, a accounts) error {
	const numbers = 20
	alice, err := a.user(ctx, "alice")
	if err != nil {
		return err
	}
	var won [numbers]bool
	err = together(numbers, func(i int) error {
		err := a.Associate(ctx, store.Association{UserID: alice, MSISDN: fmt.Sprint(number, i), AddedAt: int64(i)})
		won[i] = err == nil
		if errors.Is(err, store.ErrOneNumber) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("from Associate of %d numbers at once: %w", numbers, err)
	}
	var want []store.Association
	for i := range won {
		if won[i] {
			want = append(want, store.Association{UserID: alice, MSISDN: fmt.Sprint(number, i), AddedAt: int64(i)})
		}
	}
	if len(want) != 1 {
		return fmt.Errorf("%d of %d numbers were associated with one user at once; want 1", len(want), numbers)
	}
	return expectList(ctx, a, alice, want...)
}
