package storetest_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/storetest"
)

// brokenStores names, for each broken store, checks that it must fail.
func brokenStores() map[string]struct {
	open  func() store.Store
	fails []string
} {
	type entry = struct {
		open  func() store.Store
		fails []string
	}
	return map[string]entry{
		"loses writes":                {losesWrites, []string{"RoundTrip", "RoundTripOfZeroValues", "ConcurrentKeys"}},
		"loses the country":           {alters(func(s *store.Session) { s.Country = "" }), []string{"RoundTrip"}},
		"loses the decoy":             {alters(func(s *store.Session) { s.Decoy = false }), []string{"RoundTrip"}},
		"loses texts":                 {alters(func(s *store.Session) { s.ClientTexts = 0 }), []string{"RoundTrip"}},
		"loses the handle":            {alters(func(s *store.Session) { s.Handle = "" }), []string{"RoundTrip"}},
		"loses the proof":             {alters(func(s *store.Session) { s.Proof = "" }), []string{"RoundTrip"}},
		"loses the epoch":             {alters(func(s *store.Session) { s.Epoch = "" }), []string{"RoundTrip"}},
		"loses the key":               {alters(func(s *store.Session) { s.KeyID = "" }), []string{"RoundTrip"}},
		"loses the attempt's purpose": {alters(func(s *store.Session) { s.AttemptPurpose = s.Purpose }), []string{"RoundTrip"}},
		"loses the redeemed":          {alters(func(s *store.Session) { s.RedeemedAt = 0 }), []string{"RoundTrip"}},
		"truncates": {
			alters(func(s *store.Session) { s.NextLink = s.NextLink[:min(len(s.NextLink), 255)] }),
			[]string{"RoundTripOfLongestValues"},
		},
		"takes -1 for none": {alters(func(s *store.Session) { s.Attempt = max(s.Attempt, 0) }), []string{"RoundTripOfZeroValues"}},
		"keeps old values":  {keepsOldValues, []string{"Replace", "ReplaceSID", "PutTwiceInOneUnit", "UnitReadsItsOwnWrites"}},
		"inserts only":      {insertsOnly, []string{"PutTwiceInOneUnit"}},
		"upserts":           {upserts, []string{"UnreadIsNotReplaced"}},
		"finds anything":    {findsAnything, []string{"NotFound"}},
		"remembers sids":    {remembersSIDs, []string{"ReplaceSID"}},
		"drops clashes":     {dropsClashes, []string{"SIDIsUnique"}},
		"folds case":        {foldsCase, []string{"SIDIsComparedByteByByte"}},
		"shares nonces in":  {sharesIn, []string{"SessionsAreCopies"}},
		"shares nonces out": {sharesOut, []string{"SessionsAreCopies"}},
		"hides expired":     {hidesExpired, []string{"ExpiredIsFoundUntilDeleted"}},
		"reads behind":      {readsBehind, []string{"UnitReadsItsOwnWrites"}},

		"loses buckets":        {withBuckets(nil, losesBuckets), []string{"BucketsRoundTrip", "ConcurrentBuckets"}},
		"truncates states":     {withBuckets(nil, truncatesStates), []string{"BucketsRoundTrip"}},
		"keeps first states":   {withBuckets(nil, keepsFirstStates), []string{"BucketsReplace", "BucketsReadTheirOwnWrites"}},
		"puts unread buckets":  {withBuckets(nil, putsUnread), []string{"BucketsUnreadAreNotPut"}},
		"nameless when absent": {withBuckets(nameless, nil), []string{"BucketsRoundTrip"}},
		"sorts buckets":        {withBuckets(sorted, nil), []string{"BucketsAreInTheOrderOfTheKeys"}},
		"reads buckets behind": {readsBucketsBehind, []string{"BucketsReadTheirOwnWrites"}},
		"forgets buckets": {
			expiring(func(s store.Store, ctx context.Context, now time.Time, limit int) (int, error) {
				return s.DeleteExpired(ctx, now, min(limit, 3))
			}),
			[]string{"BucketsExpire"},
		},

		"commits on error":    {commitsOnError, []string{"ErrorKeepsNothing", "BucketsFailureKeepsNothing"}},
		"commits on panic":    {commitsOnPanic, []string{"PanicKeepsNothing", "BucketsFailureKeepsNothing"}},
		"swallows a panic":    {swallowsPanic, []string{"PanicKeepsNothing"}},
		"swallows an error":   {swallowsError, []string{"ErrorKeepsNothing", "SIDIsUnique"}},
		"ignores the context": {ignoresContext, []string{"CancelledContext"}},
		"View writes":         {viewsWrite, []string{"ViewIsReadOnly", "BucketsAreReadOnlyInView"}},
		"View swallows":       {viewSwallowsError, []string{"ViewReturnsTheError"}},
		"View drifts":         {viewsDrift, []string{"ViewIsConsistent", "ViewOfBucketsIsConsistent"}},
		"fails under load":    {failsUnderLoad, []string{"ConcurrentIncrements", "ConcurrentCreation", "ConcurrentKeys"}},
		"does not lock":       {doesNotLock, []string{"ConcurrentIncrements", "ConcurrentCreation", "ConcurrentCrossing", "ConcurrentBuckets", "ConcurrentBucketCreation"}},

		"ignores the limit": {
			expiring(func(s store.Store, ctx context.Context, now time.Time, _ int) (int, error) {
				return s.DeleteExpired(ctx, now, 1<<30)
			}),
			[]string{"DeleteExpiredInChunks"},
		},
		"miscounts": {
			expiring(func(s store.Store, ctx context.Context, now time.Time, limit int) (int, error) {
				_, err := s.DeleteExpired(ctx, now, limit)
				return limit, err
			}),
			[]string{"DeleteExpiredInChunks", "DeleteExpiredBoundary"},
		},
		"deletes too early": {
			expiring(func(s store.Store, ctx context.Context, now time.Time, limit int) (int, error) {
				return s.DeleteExpired(ctx, now.Add(time.Millisecond), limit)
			}),
			[]string{"DeleteExpiredBoundary"},
		},
		"deletes too late": {
			expiring(func(s store.Store, ctx context.Context, now time.Time, limit int) (int, error) {
				return s.DeleteExpired(ctx, now.Add(-time.Millisecond), limit)
			}),
			[]string{"DeleteExpiredBoundary"},
		},
		"deletes after the end": {
			expiring(func(s store.Store, ctx context.Context, now time.Time, limit int) (int, error) {
				return s.DeleteExpired(context.WithoutCancel(ctx), now, limit)
			}),
			[]string{"CancelledContext"},
		},
	}
}

// A check that no broken store fails would show nothing when it passes.
func TestEachCheckFailsOnSomeBrokenStore(t *testing.T) {
	t.Parallel()
	checks := make(map[string]storetest.Check)
	for _, c := range storetest.Checks() {
		checks[c.Name] = c
	}
	shown := make(map[string]bool)
	for name, broken := range brokenStores() {
		for _, check := range broken.fails {
			shown[check] = true
			t.Run(name+"/"+check, func(t *testing.T) {
				t.Parallel()
				err := checks[check].Run(t.Context(), func() (store.Store, error) { return broken.open(), nil })
				if err == nil {
					t.Error("the check passed")
				}
			})
		}
	}
	for name := range checks {
		if !shown[name] {
			t.Errorf("no broken store fails %s", name)
		}
	}
	for name := range shown {
		if _, ok := checks[name]; !ok {
			t.Errorf("there is no check %s", name)
		}
	}
}

func TestChecksPassTheOpenersErrorOn(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for _, c := range storetest.Checks() {
		err := c.Run(t.Context(), func() (store.Store, error) { return nil, refused })
		if !errors.Is(err, refused) {
			t.Errorf("%s: got %v", c.Name, err)
		}
	}
	for _, c := range storetest.AccountsChecks(storetest.AccountsOptions{}) {
		err := c.Run(t.Context(), func() (store.Accounts, error) { return nil, refused })
		if !errors.Is(err, refused) {
			t.Errorf("%s: got %v", c.Name, err)
		}
	}
}

// brokenAccountsSpoilers names, for each way to spoil an Accounts, checks that
// it must fail.
func brokenAccountsSpoilers() map[string]struct {
	spoil func(*brokenAccounts)
	fails []string
} {
	type entry = struct {
		spoil func(*brokenAccounts)
		fails []string
	}
	return map[string]entry{
		"truncates users": {func(b *brokenAccounts) {
			b.associate = func(ctx context.Context, a store.Association) error {
				a.UserID = a.UserID[:min(len(a.UserID), 191)]
				return b.Accounts.Associate(ctx, a)
			}
		}, []string{"RoundTrip"}},
		"nobody has none": {func(b *brokenAccounts) {
			b.owner = func(ctx context.Context, msisdn string) (string, error) {
				user, err := b.Accounts.Owner(ctx, msisdn)
				if errors.Is(err, store.ErrNotFound) {
					err = nil
				}
				return user, err
			}
		}, []string{"NotFound", "Dissociate"}},
		"renews": {func(b *brokenAccounts) {
			b.associate = func(ctx context.Context, a store.Association) error {
				_ = b.Accounts.Dissociate(ctx, a.UserID, a.MSISDN)
				return b.Accounts.Associate(ctx, a)
			}
		}, []string{"SameUserAgain"}},
		"refuses the same user": {func(b *brokenAccounts) {
			b.associate = func(ctx context.Context, a store.Association) error {
				if _, err := b.Accounts.Owner(ctx, a.MSISDN); err == nil {
					return store.ErrInUse
				}
				return b.Accounts.Associate(ctx, a)
			}
		}, []string{"SameUserAgain"}},
		"reassigns": {func(b *brokenAccounts) {
			b.associate = func(ctx context.Context, a store.Association) error {
				if owner, err := b.Accounts.Owner(ctx, a.MSISDN); err == nil {
					_ = b.Accounts.Dissociate(ctx, owner, a.MSISDN)
				}
				return b.Accounts.Associate(ctx, a)
			}
		}, []string{"NeverReassigned", "ConcurrentAssociation"}},
		"dissociates anybody's": {func(b *brokenAccounts) {
			b.dissociate = func(ctx context.Context, _, msisdn string) error {
				owner, err := b.Accounts.Owner(ctx, msisdn)
				if err != nil {
					return err
				}
				return b.Accounts.Dissociate(ctx, owner, msisdn)
			}
		}, []string{"Dissociate"}},
		"does not dissociate": {func(b *brokenAccounts) {
			b.dissociate = func(context.Context, string, string) error { return nil }
		}, []string{"Dissociate", "NotFound"}},
		"lists by number": {func(b *brokenAccounts) {
			b.list = func(ctx context.Context, userID string) ([]store.Association, error) {
				list, err := b.Accounts.List(ctx, userID)
				slices.SortFunc(list, func(x, y store.Association) int { return cmp.Compare(x.MSISDN, y.MSISDN) })
				return list, err
			}
		}, []string{"ListIsOldestFirst"}},
		"folds case": {func(b *brokenAccounts) {
			b.dissociate = func(ctx context.Context, userID, msisdn string) error {
				return b.Accounts.Dissociate(ctx, strings.ToLower(userID), msisdn)
			}
		}, []string{"UsersAreComparedByteByByte"}},
	}
}

func TestEachAccountsCheckFailsOnSomeBrokenAccounts(t *testing.T) {
	t.Parallel()
	checks := make(map[string]storetest.AccountsCheck)
	for _, c := range storetest.AccountsChecks(storetest.AccountsOptions{}) {
		checks[c.Name] = c
	}
	shown := make(map[string]bool)
	for name, broken := range brokenAccountsSpoilers() {
		for _, check := range broken.fails {
			shown[check] = true
			t.Run(name+"/"+check, func(t *testing.T) {
				t.Parallel()
				err := checks[check].Run(t.Context(), func() (store.Accounts, error) {
					b := &brokenAccounts{Accounts: memstore.New()}
					broken.spoil(b)
					return b, nil
				})
				if err == nil {
					t.Error("the check passed")
				}
			})
		}
	}
	for name := range checks {
		if !shown[name] {
			t.Errorf("nothing broken fails %s", name)
		}
	}
}
