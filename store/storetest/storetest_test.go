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

// brokenStores lists, for each broken store, the checks that must fail for it.
func brokenStores() map[string]struct {
	open  func() store.Store
	fails []string
} {
	type entry = struct {
		open  func() store.Store
		fails []string
	}
	return map[string]entry{
		"loses writes":                {alters(func(r *store.Rows) { *r = store.Rows{Records: r.Records} }), []string{"RoundTrip", "RoundTripOfZeroValues", "ConcurrentKeys"}},
		"loses the country":           {altersSession(func(s *store.Session) { s.Country = "" }), []string{"RoundTrip"}},
		"loses the decoy":             {altersSession(func(s *store.Session) { s.Decoy = false }), []string{"RoundTrip"}},
		"loses texts":                 {altersSession(func(s *store.Session) { s.ClientTexts = 0 }), []string{"RoundTrip"}},
		"loses the handle":            {altersSession(func(s *store.Session) { s.DelegateID = "" }), []string{"RoundTrip"}},
		"loses the proof":             {altersSession(func(s *store.Session) { s.AcceptedTokenDigest = "" }), []string{"RoundTrip"}},
		"loses the epoch":             {altersSession(func(s *store.Session) { s.Epoch = "" }), []string{"RoundTrip"}},
		"loses the key":               {altersSession(func(s *store.Session) { s.KeyID = "" }), []string{"RoundTrip"}},
		"loses the attempt's purpose": {altersSession(func(s *store.Session) { s.AttemptPurpose = s.Purpose }), []string{"RoundTrip"}},
		"loses the redeemed":          {altersSession(func(s *store.Session) { s.RedeemedAt = 0 }), []string{"RoundTrip"}},
		"truncates":                   {altersSession(func(s *store.Session) { s.NextLink = cut(s.NextLink, 255) }), []string{"RoundTripOfLongestValues"}},
		"takes -1 for none":           {altersSession(func(s *store.Session) { s.Attempt = max(s.Attempt, 0) }), []string{"RoundTripOfZeroValues"}},
		"keeps old values":            {keepsOld, []string{"Replace", "ReplaceSID", "RecordsReplace"}},
		"names the absent":            {altersViews(named), []string{"AbsentSession"}},
		"remembers sids":              {remembersSIDs, []string{"ReplaceSID"}},
		"drops errors":                {updating(dropsErrors), []string{"SIDIsUnique", "CancelledContext"}},
		"folds case":                  {viewing(foldsCase), []string{"SIDIsComparedByteByByte"}},
		"shares nonces":               {sharesOut, []string{"SessionsAreCopies"}},
		"hides expired":               {altersViews(hidesExpired), []string{"ExpiredIsFoundUntilDeleted"}},
		"stores anything":             {updating(storesAnything), []string{"UnstorableIsRefused"}},

		"loses records":        {altersRecords(func(r *store.Record) { r.State, r.ExpiresAt = "", 0 }), []string{"RecordsRoundTrip", "ConcurrentRecords"}},
		"truncates states":     {altersRecords(func(r *store.Record) { r.State = cut(r.State, 255) }), []string{"RecordsRoundTrip"}},
		"nameless when absent": {altersViews(nameless), []string{"RecordsRoundTrip"}},
		"sorts records":        {altersViews(sorted), []string{"RecordsAreInTheOrderOfTheNames"}},
		"forgets records": {
			expiring(func(ctx context.Context, s store.Store, now time.Time, limit int) (int, error) {
				return s.DeleteExpired(ctx, now.Add(-time.Millisecond), limit)
			}),
			[]string{"RecordsExpire"},
		},

		"commits on error": {updating(commitsOnError), []string{"ErrorKeepsNothing", "OtherNames"}},
		"commits on panic": {updating(commitsOnPanic), []string{"PanicKeepsNothing"}},
		"swallows a panic": {updating(swallowsPanic), []string{"PanicKeepsNothing"}},
		"hides names":      {updating(hidesNames), []string{"OtherNames"}},
		"ignores the context": {
			updating(func(ctx context.Context, s store.Store, names store.Names, change func(*store.Rows) error) error {
				return s.Update(context.WithoutCancel(ctx), names, change)
			}),
			[]string{"CancelledContext", "FailuresTouchNoOther"},
		},
		"View drifts":      {viewing(drifts), []string{"ViewIsConsistent"}},
		"fails under load": {failsUnderLoad, []string{"ConcurrentIncrements", "ConcurrentCreation", "ConcurrentKeys"}},
		"shares fate":      {sharesFate, []string{"FailuresTouchNoOther"}},
		"checks nothing":   {optimistic(checksNothing), []string{"ConcurrentIncrements", "ConcurrentCreation", "ConcurrentCrossing", "ConcurrentRecords"}},
		"checks written":   {optimistic(checksWritten), []string{"ReadRowsArePartOfTheUnit"}},
		"checks present":   {optimistic(checksPresent), []string{"AbsentRowsArePartOfTheUnit"}},

		"ignores the limit": {
			expiring(func(ctx context.Context, s store.Store, now time.Time, _ int) (int, error) {
				return s.DeleteExpired(ctx, now, 1<<30)
			}),
			[]string{"DeleteExpiredInChunks"},
		},
		"miscounts": {
			expiring(func(ctx context.Context, s store.Store, now time.Time, limit int) (int, error) {
				_, err := s.DeleteExpired(ctx, now, limit)
				return limit, err
			}),
			[]string{"DeleteExpiredInChunks", "DeleteExpiredBoundary"},
		},
		"deletes too early": {
			expiring(func(ctx context.Context, s store.Store, now time.Time, limit int) (int, error) {
				return s.DeleteExpired(ctx, now.Add(time.Millisecond), limit)
			}),
			[]string{"DeleteExpiredBoundary"},
		},
		"deletes too late": {
			expiring(func(ctx context.Context, s store.Store, now time.Time, limit int) (int, error) {
				return s.DeleteExpired(ctx, now.Add(-time.Millisecond), limit)
			}),
			[]string{"DeleteExpiredBoundary"},
		},
		"deletes after the end": {
			expiring(func(ctx context.Context, s store.Store, now time.Time, limit int) (int, error) {
				return s.DeleteExpired(context.WithoutCancel(ctx), now, limit)
			}),
			[]string{"CancelledContext"},
		},
	}
}

// A check that fails for no broken store would prove nothing when it passes.
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

func TestChecksReturnTheErrorOfOpen(t *testing.T) {
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

// brokenAccountsSpoilers lists, for each broken Accounts, the checks that must fail for it.
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
