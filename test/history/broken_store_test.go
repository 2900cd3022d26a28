package history_test

import (
	"context"
	"errors"
	"time"

	"example.com/threepid/store"
)

// brokenStore is a store whose Update is not serializable for some units: it does not notice what
// others write between its reads and its writes. The checker must find that. Everything that
// depends on how a unit of work is written is in this file.
type brokenStore struct {
	bothStores

	breaks func(store.Session) bool // whether a unit that writes this session is broken
	pause  time.Duration            // between reads and writes
}

// Update reads in one unit and writes in another.
func (b *brokenStore) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	return store.Follow(names, func(names store.Names) error {
		before, err := b.View(ctx, names)
		if err != nil {
			return err
		}
		after, _, err := store.Apply(names, before, change)
		switch {
		case errors.Is(err, store.ErrNames):
			return err
		case err != nil, after.Session.Equal(&before.Session), !b.breaks(after.Session):
			return b.bothStores.Update(ctx, names, change)
		}
		time.Sleep(b.pause)
		return b.bothStores.Update(ctx, names, func(rows *store.Rows) error {
			*rows = after // whatever others have written in the meantime
			return nil
		})
	})
}
