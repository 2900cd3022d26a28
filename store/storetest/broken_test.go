package storetest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// Each of the stores below has one defect. They wrap a memstore, which is correct.

type (
	changeFunc = func(*store.Rows) error
	viewFunc   = func(context.Context, store.Store, store.Names) (store.Rows, error)
	updateFunc = func(context.Context, store.Store, store.Names, changeFunc) error
	expireFunc = func(context.Context, store.Store, time.Time, int) (int, error)
)

// broken is a store whose methods can be replaced.
type broken struct {
	store.Store
	view   viewFunc
	update updateFunc
	expire expireFunc
}

func (b *broken) View(ctx context.Context, names store.Names) (store.Rows, error) {
	if b.view == nil {
		return b.Store.View(ctx, names)
	}
	return b.view(ctx, b.Store, names)
}

func (b *broken) Update(ctx context.Context, names store.Names, change func(*store.Rows) error) error {
	if b.update == nil {
		return b.Store.Update(ctx, names, change)
	}
	return b.update(ctx, b.Store, names, change)
}

func (b *broken) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	if b.expire == nil {
		return b.Store.DeleteExpired(ctx, now, limit)
	}
	return b.expire(ctx, b.Store, now, limit)
}

func viewing(view viewFunc) func() store.Store {
	return func() store.Store { return &broken{Store: memstore.New(), view: view} }
}

func updating(update updateFunc) func() store.Store {
	return func() store.Store { return &broken{Store: memstore.New(), update: update} }
}

func expiring(expire expireFunc) func() store.Store {
	return func() store.Store { return &broken{Store: memstore.New(), expire: expire} }
}

// alters changes the rows that each unit stores.
func alters(edit func(*store.Rows)) func() store.Store {
	return updating(func(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
		return s.Update(ctx, names, func(rows *store.Rows) error {
			err := change(rows)
			edit(rows)
			return err
		})
	})
}

func altersSession(edit func(*store.Session)) func() store.Store {
	return alters(func(rows *store.Rows) {
		if rows.Session.SID != "" {
			edit(&rows.Session)
		}
	})
}

func altersRecords(edit func(*store.Record)) func() store.Store {
	return alters(func(rows *store.Rows) {
		for i := range rows.Records {
			edit(&rows.Records[i])
		}
	})
}

// altersViews changes the result of View.
func altersViews(edit func(store.Names, *store.Rows)) func() store.Store {
	return viewing(func(ctx context.Context, s store.Store, names store.Names) (store.Rows, error) {
		rows, err := s.View(ctx, names)
		edit(names, &rows)
		return rows, err
	})
}

// keepsOld changes only the expiry of a row that exists.
func keepsOld() store.Store {
	return updating(func(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
		return s.Update(ctx, names, func(rows *store.Rows) error {
			before := rows.Clone()
			err := change(rows)
			if before.Session.SID != "" {
				before.Session.ExpiresAt = rows.Session.ExpiresAt
				rows.Session = before.Session
			}
			for i := range rows.Records {
				if i < len(before.Records) && before.Records[i].State != "" {
					rows.Records[i].State = before.Records[i].State
				}
			}
			return err
		})
	})()
}

// foldsCase ignores the case of a sid, like the usual collations of MySQL.
func foldsCase(ctx context.Context, s store.Store, names store.Names) (store.Rows, error) {
	rows, err := s.View(ctx, names)
	if err == nil && names.Session.SID != "" && rows.Session.SID == "" {
		names.Session.SID = strings.ToLower(names.Session.SID)
		return s.View(ctx, names)
	}
	return rows, err
}

// remembersSIDs also finds a session by its earlier sids.
func remembersSIDs() store.Store {
	old := make(map[string]store.Key)
	return &broken{
		Store: memstore.New(),
		view: func(ctx context.Context, s store.Store, names store.Names) (store.Rows, error) {
			if key, ok := old[names.Session.SID]; ok {
				names.Session = store.SessionRef{Key: key}
			}
			return s.View(ctx, names)
		},
		update: func(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
			return s.Update(ctx, names, func(rows *store.Rows) error {
				err := change(rows)
				if rows.Session.SID != "" {
					old[rows.Session.SID] = rows.Session.Key
				}
				return err
			})
		},
	}
}

// dropsErrors reports every failure of the store as a success.
func dropsErrors(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
	var own error
	_ = s.Update(ctx, names, func(rows *store.Rows) error { own = change(rows); return own })
	return own
}

// sharesOut returns the nonce that it stores, not a copy.
func sharesOut() store.Store {
	nonces := make(map[string][]byte)
	return altersViews(func(_ store.Names, rows *store.Rows) {
		if sid := rows.Session.SID; sid != "" {
			if nonces[sid] == nil {
				nonces[sid] = rows.Session.Nonce
			}
			rows.Session.Nonce = nonces[sid]
		}
	})()
}

// commitsOnError stores the changes of a unit that fails.
func commitsOnError(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
	var own error
	if err := s.Update(ctx, names, func(rows *store.Rows) error { own = change(rows); return nil }); err != nil {
		return err
	}
	return own
}

// commitsOnPanic stores the changes of a unit that panics.
func commitsOnPanic(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
	var value any
	err := s.Update(ctx, names, func(rows *store.Rows) error {
		defer func() { value = recover() }()
		return change(rows)
	})
	if value != nil {
		panic(value)
	}
	return err
}

// swallowsPanic returns an error for a panic.
func swallowsPanic(ctx context.Context, s store.Store, names store.Names, change changeFunc) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the unit panicked")
		}
	}()
	return s.Update(ctx, names, change)
}

// hidesNames does not start again with other names.
func hidesNames(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
	var own error
	err := s.Update(ctx, names, func(rows *store.Rows) error {
		if own = change(rows); errors.Is(own, store.ErrNames) {
			return errors.New("hidden")
		}
		return own
	})
	if err != nil && own != nil {
		return own
	}
	return err
}

// failsUnderLoad refuses a unit while another one runs, as SQLite does without a busy timeout.
func failsUnderLoad() store.Store {
	var busy atomic.Bool
	return updating(func(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
		if !busy.CompareAndSwap(false, true) {
			return errors.New("database is locked")
		}
		defer busy.Store(false)
		time.Sleep(time.Millisecond)
		return s.Update(ctx, names, change)
	})()
}

// sharesFate rolls back a complete batch if one unit in it fails.
func sharesFate() store.Store {
	var mu sync.Mutex
	var last error // in the batch
	var until time.Time
	return updating(func(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
		mu.Lock()
		defer mu.Unlock()
		if last != nil && time.Now().Before(until) {
			return last
		}
		last, until = s.Update(ctx, names, change), time.Now().Add(20*time.Millisecond)
		return last
	})()
}

// optimistic verifies, at the commit, only the rows for which checks returns true.
func optimistic(checks func(now, before, after any) bool) func() store.Store {
	return updating(func(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
		return store.Follow(names, func(names store.Names) error {
			for {
				if err := ctx.Err(); err != nil {
					return err
				}
				before, err := s.View(ctx, names)
				if err != nil {
					return err
				}
				after, changed, err := store.Apply(names, before, change)
				if err != nil || !changed {
					return err
				}
				time.Sleep(time.Millisecond) // so that other units run in between
				err = s.Update(ctx, names, func(rows *store.Rows) error { return commit(rows, before, after, checks) })
				if !errors.Is(err, errConflict) {
					return err
				}
			}
		})
	})
}

var errConflict = errors.New("conflict")

func commit(rows *store.Rows, before, after store.Rows, checks func(now, before, after any) bool) error {
	if checks(rows.Session, before.Session, after.Session) && !rows.Session.Equal(&before.Session) {
		return errConflict
	}
	for i := range rows.Records {
		if checks(rows.Records[i], before.Records[i], after.Records[i]) && rows.Records[i] != before.Records[i] {
			return errConflict
		}
	}
	if !after.Session.Equal(&before.Session) {
		rows.Session = after.Session
	}
	for i := range rows.Records {
		if after.Records[i] != before.Records[i] {
			rows.Records[i] = after.Records[i]
		}
	}
	return nil
}

func checksNothing(_, _, _ any) bool { return false }

func checksWritten(_, before, after any) bool { return !same(before, after) }

// checksPresent verifies rows that existed when they were read, or that are written.
func checksPresent(now, before, after any) bool {
	if r, ok := before.(store.Record); ok && r.State == "" {
		return checksWritten(now, before, after)
	}
	if s, ok := before.(store.Session); ok && s.SID == "" {
		return checksWritten(now, before, after)
	}
	return true
}

func same(a, b any) bool {
	if s, ok := a.(store.Session); ok {
		o, _ := b.(store.Session)
		return s.Equal(&o)
	}
	return a == b
}

// drifts reads each row at a different time.
func drifts(ctx context.Context, s store.Store, names store.Names) (store.Rows, error) {
	rows, err := s.View(ctx, store.Names{Session: names.Session})
	if err != nil {
		return rows, err
	}
	for _, key := range names.Records {
		time.Sleep(100 * time.Microsecond)
		one, err := s.View(ctx, store.Names{Records: []store.Key{key}})
		if err != nil {
			return rows, err
		}
		rows.Records = append(rows.Records, one.Records...)
	}
	return rows, nil
}

// sorted returns the records in another order.
func sorted(_ store.Names, rows *store.Rows) {
	slices.SortFunc(rows.Records, func(a, b store.Record) int { return slices.Compare(a.Key[:], b.Key[:]) })
}

// nameless returns absent records without their keys.
func nameless(_ store.Names, rows *store.Rows) {
	for i := range rows.Records {
		if rows.Records[i].State == "" {
			rows.Records[i].Key = store.Key{}
		}
	}
}

// named returns a key for an absent session.
func named(names store.Names, rows *store.Rows) {
	if rows.Session.SID == "" {
		rows.Session.Key = names.Session.Key
	}
}

// hidesExpired does not find rows that may be deleted.
func hidesExpired(_ store.Names, rows *store.Rows) {
	if rows.Session.ExpiresAt < 1000 {
		rows.Session = store.Session{}
	}
}

// storesAnything stores the rows as far as possible, and drops the rest.
func storesAnything(ctx context.Context, s store.Store, names store.Names, change changeFunc) error {
	var own error
	err := s.Update(ctx, names, func(rows *store.Rows) error { own = change(rows); return own })
	if err != nil && own == nil && strings.HasPrefix(err.Error(), "store: ") {
		return nil
	}
	return err
}

func cut(s string, most int) string { return s[:min(len(s), most)] }
