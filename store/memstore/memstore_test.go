package memstore_test

import (
	"errors"
	"testing"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(testing.TB) store.Store { return memstore.New() })
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	storetest.RunAccounts(t, func(testing.TB) store.Accounts { return memstore.New() }, storetest.AccountsOptions{})
}

func TestUpdateFailsWhenAFailedPutIsDisregarded(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	err := s.Update(t.Context(), func(tx store.Tx) error {
		first := store.Session{Key: store.Key{1}, SID: "one"}
		if err := tx.PutSession(first); err != nil {
			return err
		}
		if err := tx.PutSession(store.Session{Key: store.Key{2}, SID: "one"}); err == nil {
			t.Error("a second session got the sid of the first")
		}
		return nil
	})
	if err == nil {
		t.Error("Update kept half of a unit")
	}
	err = s.View(t.Context(), func(tx store.Tx) error {
		_, err := tx.SessionBySID("one")
		return err
	})
	if !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the failed unit: got %v, want ErrNotFound", err)
	}
}

func TestCounters(t *testing.T) {
	t.Parallel()
	storetest.RunCounters(t, func(testing.TB) store.Counters { return memstore.New() })
}
