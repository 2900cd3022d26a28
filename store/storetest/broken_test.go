package storetest_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// The stores below are each wrong in one way. They stand on a memstore, which
// is right.

// broken is a store whose methods can be replaced.
type broken struct {
	store.Store
	view   func(context.Context, func(store.Tx) error) error
	update func(context.Context, func(store.Tx) error) error
	expire func(context.Context, time.Time, int) (int, error)
}

func (b *broken) View(ctx context.Context, fn func(store.Tx) error) error {
	if b.view == nil {
		return b.Store.View(ctx, fn)
	}
	return b.view(ctx, fn)
}

func (b *broken) Update(ctx context.Context, fn func(store.Tx) error) error {
	if b.update == nil {
		return b.Store.Update(ctx, fn)
	}
	return b.update(ctx, fn)
}

func (b *broken) DeleteExpired(ctx context.Context, now time.Time, limit int) (int, error) {
	if b.expire == nil {
		return b.Store.DeleteExpired(ctx, now, limit)
	}
	return b.expire(ctx, now, limit)
}

// brokenTx is a Tx whose methods can be replaced.
type brokenTx struct {
	store.Tx
	byKey func(store.Key) (store.Session, error)
	bySID func(string) (store.Session, error)
	put   func(store.Session) error

	buckets    func([]store.Key) ([]store.Bucket, error)
	putBuckets func([]store.Bucket) error
}

func (t *brokenTx) Buckets(keys []store.Key) ([]store.Bucket, error) {
	if t.buckets == nil {
		return t.Tx.Buckets(keys)
	}
	return t.buckets(keys)
}

func (t *brokenTx) PutBuckets(buckets []store.Bucket) error {
	if t.putBuckets == nil {
		return t.Tx.PutBuckets(buckets)
	}
	return t.putBuckets(buckets)
}

func (t *brokenTx) SessionByKey(key store.Key) (store.Session, error) {
	if t.byKey == nil {
		return t.Tx.SessionByKey(key)
	}
	return t.byKey(key)
}

func (t *brokenTx) SessionBySID(sid string) (store.Session, error) {
	if t.bySID == nil {
		return t.Tx.SessionBySID(sid)
	}
	return t.bySID(sid)
}

func (t *brokenTx) PutSession(s store.Session) error {
	if t.put == nil {
		return t.Tx.PutSession(s)
	}
	return t.put(s)
}

// withTx is a store each Tx of which is broken.
func withTx(spoil func(tx store.Tx) store.Tx) store.Store {
	s := memstore.New()
	return &broken{
		Store: s,
		view: func(ctx context.Context, fn func(store.Tx) error) error {
			return s.View(ctx, func(tx store.Tx) error { return fn(spoil(tx)) })
		},
		update: func(ctx context.Context, fn func(store.Tx) error) error {
			return s.Update(ctx, func(tx store.Tx) error { return fn(spoil(tx)) })
		},
	}
}

// losesWrites says that it puts and does not.
func losesWrites() store.Store {
	return withTx(func(tx store.Tx) store.Tx {
		return &brokenTx{Tx: tx, put: func(store.Session) error { return nil }}
	})
}

// alters changes each session before it puts it.
func alters(edit func(*store.Session)) func() store.Store {
	return func() store.Store {
		return withTx(func(tx store.Tx) store.Tx {
			return &brokenTx{Tx: tx, put: func(s store.Session) error {
				edit(&s)
				return tx.PutSession(s)
			}}
		})
	}
}

// keepsOldValues replaces only the expiry of a session that is there.
func keepsOldValues() store.Store {
	return withTx(func(tx store.Tx) store.Tx {
		return &brokenTx{Tx: tx, put: func(s store.Session) error {
			if old, err := tx.SessionByKey(s.Key); err == nil {
				old.ExpiresAt = s.ExpiresAt
				s = old
			}
			return tx.PutSession(s)
		}}
	})
}

// insertsOnly refuses to replace what the same unit has put.
func insertsOnly() store.Store {
	return withTx(func(tx store.Tx) store.Tx {
		done := make(map[store.Key]bool)
		return &brokenTx{Tx: tx, put: func(s store.Session) error {
			if done[s.Key] {
				return errors.New("duplicate")
			}
			done[s.Key] = true
			return tx.PutSession(s)
		}}
	})
}

// upserts replaces a session whether the unit has read it or not.
func upserts() store.Store {
	return withTx(func(tx store.Tx) store.Tx {
		return &brokenTx{Tx: tx, put: func(s store.Session) error {
			_, _ = tx.SessionByKey(s.Key)
			return tx.PutSession(s)
		}}
	})
}

// findsAnything returns an empty session for an absent one.
func findsAnything() store.Store {
	found := func(s store.Session, err error) (store.Session, error) {
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		return s, err
	}
	return withTx(func(tx store.Tx) store.Tx {
		return &brokenTx{
			Tx:    tx,
			byKey: func(key store.Key) (store.Session, error) { return found(tx.SessionByKey(key)) },
			bySID: func(sid string) (store.Session, error) { return found(tx.SessionBySID(sid)) },
		}
	})
}

// remembersSIDs finds a session by the sids that it had.
func remembersSIDs() store.Store {
	s := memstore.New()
	old := make(map[string]store.Key)
	return &broken{
		Store: s,
		view: func(ctx context.Context, fn func(store.Tx) error) error {
			return s.View(ctx, func(tx store.Tx) error {
				return fn(&brokenTx{Tx: tx, bySID: func(sid string) (store.Session, error) {
					if key, ok := old[sid]; ok {
						return tx.SessionByKey(key)
					}
					return tx.SessionBySID(sid)
				}})
			})
		},
		update: func(ctx context.Context, fn func(store.Tx) error) error {
			return s.Update(ctx, func(tx store.Tx) error {
				return fn(&brokenTx{Tx: tx, put: func(session store.Session) error {
					old[session.SID] = session.Key
					return tx.PutSession(session)
				}})
			})
		},
	}
}

// dropsClashes disregards a put whose sid is taken.
func dropsClashes() store.Store {
	return withTx(func(tx store.Tx) store.Tx {
		return &brokenTx{Tx: tx, put: func(s store.Session) error {
			if other, err := tx.SessionBySID(s.SID); err == nil && other.Key != s.Key {
				return nil
			}
			return tx.PutSession(s)
		}}
	})
}

// foldsCase takes an upper-case sid for the lower-case one, as MySQL's usual
// collations do.
func foldsCase() store.Store {
	return withTx(func(tx store.Tx) store.Tx {
		return &brokenTx{Tx: tx, bySID: func(sid string) (store.Session, error) {
			s, err := tx.SessionBySID(sid)
			if errors.Is(err, store.ErrNotFound) {
				return tx.SessionBySID(strings.ToLower(sid))
			}
			return s, err
		}}
	})
}

// sharesIn keeps the very nonce that it was given, and sharesOut returns the
// very nonce that it keeps.
func sharesIn() store.Store  { return sharing(true) }
func sharesOut() store.Store { return sharing(false) }

func sharing(in bool) store.Store {
	nonces := make(map[store.Key][]byte)
	return withTx(func(tx store.Tx) store.Tx {
		return &brokenTx{
			Tx: tx,
			byKey: func(key store.Key) (store.Session, error) {
				s, err := tx.SessionByKey(key)
				if err == nil && nonces[key] == nil {
					nonces[key] = s.Nonce
				}
				if err == nil {
					s.Nonce = nonces[key]
				}
				return s, err
			},
			put: func(s store.Session) error {
				if in {
					nonces[s.Key] = s.Nonce
				}
				return tx.PutSession(s)
			},
		}
	})
}

// hidesExpired does not find what could be deleted.
func hidesExpired() store.Store {
	return withTx(func(tx store.Tx) store.Tx {
		return &brokenTx{Tx: tx, byKey: func(key store.Key) (store.Session, error) {
			s, err := tx.SessionByKey(key)
			if err == nil && s.ExpiresAt < 1000 {
				return store.Session{}, store.ErrNotFound
			}
			return s, err
		}}
	})
}

// readsBehind does not see in a unit what the unit has put.
func readsBehind() store.Store {
	s := memstore.New()
	return &broken{Store: s, update: func(ctx context.Context, fn func(store.Tx) error) error {
		return s.Update(ctx, func(tx store.Tx) error {
			var puts []store.Session
			err := fn(&brokenTx{Tx: tx, put: func(session store.Session) error {
				puts = append(puts, session)
				return nil
			}})
			for i := 0; i < len(puts) && err == nil; i++ {
				err = tx.PutSession(puts[i])
			}
			return err
		})
	}}
}

// commitsOnError keeps what a unit put before it failed.
func commitsOnError() store.Store {
	return updating(func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
		var own error
		if err := s.Update(ctx, func(tx store.Tx) error { own = fn(tx); return nil }); err != nil {
			return err
		}
		return own
	})
}

// commitsOnPanic keeps what a unit put before it panicked.
func commitsOnPanic() store.Store {
	return updating(func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
		var value any
		err := s.Update(ctx, func(tx store.Tx) error {
			defer func() { value = recover() }()
			return fn(tx)
		})
		if value != nil {
			panic(value)
		}
		return err
	})
}

// swallowsPanic makes an error of a panic.
func swallowsPanic() store.Store {
	return updating(func(s store.Store, ctx context.Context, fn func(store.Tx) error) (err error) {
		defer func() {
			if recover() != nil {
				err = errors.New("the unit panicked")
			}
		}()
		return s.Update(ctx, fn)
	})
}

// swallowsError rolls back and says nothing of it.
func swallowsError() store.Store {
	return updating(func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
		_ = s.Update(ctx, fn)
		return nil
	})
}

// ignoresContext begins whatever became of the context.
func ignoresContext() store.Store {
	return updating(func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
		return s.Update(context.WithoutCancel(ctx), fn)
	})
}

func updating(update func(store.Store, context.Context, func(store.Tx) error) error) store.Store {
	s := memstore.New()
	return &broken{Store: s, update: func(ctx context.Context, fn func(store.Tx) error) error { return update(s, ctx, fn) }}
}

// failsUnderLoad refuses a unit while another runs, as SQLite does without a
// busy timeout.
func failsUnderLoad() store.Store {
	var busy atomic.Bool
	return updating(func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
		if !busy.CompareAndSwap(false, true) {
			return errors.New("database is locked")
		}
		defer busy.Store(false)
		time.Sleep(time.Millisecond)
		return s.Update(ctx, fn)
	})
}

// doesNotLock reads as of the unit's beginning and then overwrites whatever
// others have put meanwhile.
func doesNotLock() store.Store {
	return updating(func(s store.Store, ctx context.Context, fn func(store.Tx) error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		puts := make(map[store.Key]store.Session)
		var filled []store.Bucket
		err := s.View(ctx, func(tx store.Tx) error {
			return fn(&brokenTx{Tx: tx, put: func(session store.Session) error {
				puts[session.Key] = session
				return nil
			}, putBuckets: func(buckets []store.Bucket) error {
				filled = append(filled, buckets...)
				return nil
			}})
		})
		if err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
		return s.Update(ctx, func(tx store.Tx) error {
			for key := range puts {
				_, _ = tx.SessionByKey(key)
				if err := tx.PutSession(puts[key]); err != nil {
					return err
				}
			}
			return putsUnread(tx, filled)
		})
	})
}

// viewsWrite lets a View put.
func viewsWrite() store.Store {
	s := memstore.New()
	return &broken{Store: s, view: s.Update}
}

// viewSwallowsError says that all went well.
func viewSwallowsError() store.Store {
	s := memstore.New()
	return &broken{Store: s, view: func(ctx context.Context, fn func(store.Tx) error) error {
		err := s.View(ctx, fn)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	}}
}

// viewsDrift reads each session at another time.
func viewsDrift() store.Store {
	s := memstore.New()
	return &broken{Store: s, view: func(ctx context.Context, fn func(store.Tx) error) error {
		return fn(&driftingTx{ctx: ctx, s: s})
	}}
}

type driftingTx struct {
	store.Tx
	ctx context.Context
	s   store.Store
}

func (t *driftingTx) SessionByKey(key store.Key) (session store.Session, err error) {
	err = t.s.View(t.ctx, func(tx store.Tx) (err error) {
		session, err = tx.SessionByKey(key)
		return err
	})
	time.Sleep(100 * time.Microsecond)
	return session, err
}

// expiring is a store with another DeleteExpired.
func expiring(expire func(s store.Store, ctx context.Context, now time.Time, limit int) (int, error)) func() store.Store {
	return func() store.Store {
		s := memstore.New()
		return &broken{Store: s, expire: func(ctx context.Context, now time.Time, limit int) (int, error) {
			return expire(s, ctx, now, limit)
		}}
	}
}
