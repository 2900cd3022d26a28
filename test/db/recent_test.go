package db_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

// TestRecentRows uses two stores over one database, like two nodes. One of them remembers a row
// that the other has changed since.
func TestRecentRows(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		db := s.newDatabase(t)
		a := migrated(t, newStore(t, connect(t, s.dialector(db), connections/3), gormstore.Options{}))
		b := newStore(t, connect(t, s.dialector(db), connections/3), gormstore.Options{})
		for name, check := range map[string]func(ctx context.Context, a, b store.Store, names store.Names) error{
			"Change": checkStaleChange, "Decision": checkStaleDecision, "LateDecision": checkLateDecision, "Absence": checkStaleAbsence, "Deletion": checkStaleDeletion, "Session": checkStaleSession,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				names := store.Names{Session: store.SessionRef{Key: store.SessionKey(name, "GB", "1")}, Records: []store.Key{store.RecordKey("recent", name), store.RecordKey("recent", name, "2")}}
				if err := check(t.Context(), a, b, names); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// TestRecentSessionThatWasReplaced uses stores of its own, because units of other tests in a batch
// could make it run again.
func TestRecentSessionThatWasReplaced(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s server) {
		t.Helper()
		db := s.newDatabase(t)
		a := migrated(t, newStore(t, connect(t, s.dialector(db), connections/3), gormstore.Options{}))
		b := newStore(t, connect(t, s.dialector(db), connections/3), gormstore.Options{})
		names := store.Names{Session: store.SessionRef{Key: store.SessionKey("secret", "GB", "1")}, Records: []store.Key{store.RecordKey("recent")}}
		if err := checkReplacedSession(t.Context(), a, b, names); err != nil {
			t.Error(err)
		}
	})
}

// write stores a state in the first record of a unit.
func write(ctx context.Context, s store.Store, names store.Names, text string) error {
	return writeUntil(ctx, s, names, text, 1<<40)
}

func writeUntil(ctx context.Context, s store.Store, names store.Names, text string, expiresAt int64) error {
	return s.Update(ctx, names, func(rows *store.Rows) error {
		rows.Records[0].State, rows.Records[0].ExpiresAt = text, expiresAt
		return nil
	})
}

func remember(ctx context.Context, s store.Store, names store.Names) error {
	_, err := s.View(ctx, names)
	return err
}

// checkStaleChange runs a unit that appends to what another node has written.
func checkStaleChange(ctx context.Context, a, b store.Store, names store.Names) error {
	if err := errors.Join(write(ctx, a, names, "x"), remember(ctx, a, names), write(ctx, b, names, "y")); err != nil {
		return err
	}
	err := a.Update(ctx, names, func(rows *store.Rows) error {
		rows.Records[0].State += "z"
		return nil
	})
	if err != nil {
		return err
	}
	rows, err := b.View(ctx, names)
	if err != nil || rows.Records[0].State != "yz" {
		return fmt.Errorf("the record is %+v, error %w; want yz", rows.Records[0], err)
	}
	return nil
}

// checkStaleDecision runs a unit that decides to write nothing.
func checkStaleDecision(ctx context.Context, a, b store.Store, names store.Names) error {
	if err := errors.Join(write(ctx, a, names, "x"), remember(ctx, a, names), write(ctx, b, names, "y")); err != nil {
		return err
	}
	var saw string
	refused := errors.New("refused")
	err := a.Update(ctx, names, func(rows *store.Rows) error {
		saw = rows.Records[0].State
		return refused
	})
	if !errors.Is(err, refused) || saw != "y" {
		return fmt.Errorf("a unit that refuses saw %q, error %w; want y", saw, err)
	}
	err = a.Update(ctx, names, func(rows *store.Rows) error {
		saw = rows.Records[0].State
		return nil
	})
	if err != nil || saw != "y" {
		return fmt.Errorf("a unit that changes nothing saw %q, error %w; want y", saw, err)
	}
	return nil
}

// checkLateDecision runs a unit that refuses because of a row that another node has changed since.
// Its context has ended, so it cannot run again, and it must not return its refusal.
func checkLateDecision(ctx context.Context, a, b store.Store, names store.Names) error {
	if err := errors.Join(write(ctx, a, names, "x"), remember(ctx, a, names), write(ctx, b, names, "y")); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	defer cancel()
	err := a.Update(ended, names, func(*store.Rows) error {
		cancel()
		return errors.New("refused")
	})
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("got %w, want the context's error", err)
	}
	return nil
}

// checkStaleAbsence creates, on another node, a record that was absent.
func checkStaleAbsence(ctx context.Context, a, b store.Store, names store.Names) error {
	if err := errors.Join(remember(ctx, a, names), write(ctx, b, names, "y")); err != nil {
		return err
	}
	err := a.Update(ctx, names, func(rows *store.Rows) error {
		rows.Records[0].State += "z"
		return nil
	})
	if err != nil {
		return err
	}
	rows, err := b.View(ctx, names)
	if err != nil || rows.Records[0].State != "yz" {
		return fmt.Errorf("the record is %+v, error %w; want yz", rows.Records[0], err)
	}
	return nil
}

// checkStaleDeletion deletes a remembered record on another node.
func checkStaleDeletion(ctx context.Context, a, b store.Store, names store.Names) error {
	if err := errors.Join(writeUntil(ctx, a, names, "x", 1), remember(ctx, a, names)); err != nil {
		return err
	}
	if _, err := b.DeleteExpired(ctx, time.UnixMilli(1), 1000); err != nil {
		return err
	}
	var saw string
	err := a.Update(ctx, names, func(rows *store.Rows) error {
		saw = rows.Records[0].State
		rows.Records[0].State, rows.Records[0].ExpiresAt = saw+"z", 1<<40
		return nil
	})
	if err != nil || saw != "" {
		return fmt.Errorf("a unit saw %q in a row that was deleted, error %w", saw, err)
	}
	rows, err := b.View(ctx, names)
	if err != nil || rows.Records[0].State != "z" {
		return fmt.Errorf("the record is %+v, error %w; want z", rows.Records[0], err)
	}
	return nil
}

// checkStaleSession increments a counter in a session on both nodes concurrently, by its key and by
// its sid.
func checkStaleSession(ctx context.Context, a, b store.Store, names store.Names) error {
	key := store.Names{Session: names.Session}
	err := a.Update(ctx, key, func(rows *store.Rows) error {
		rows.Session = store.Session{Key: names.Session.Key, SID: "sid-of-" + names.Session.Key.String(), MSISDN: "1", ExpiresAt: 1 << 40}
		return nil
	})
	if err != nil {
		return err
	}
	sid := store.Names{Session: store.SessionRef{SID: "sid-of-" + names.Session.Key.String()}}
	const each = 25
	var wg sync.WaitGroup
	errs := make(chan error, 4*each)
	for _, s := range []store.Store{a, b} {
		for _, by := range []store.Names{key, sid} {
			wg.Go(func() {
				for range each {
					_, viewErr := s.View(ctx, by)
					errs <- errors.Join(viewErr, s.Update(ctx, by, func(rows *store.Rows) error {
						rows.Session.WrongTries++
						return nil
					}))
				}
			})
		}
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	rows, err := b.View(ctx, sid)
	if err != nil || rows.Session.WrongTries != 4*each {
		return fmt.Errorf("%d tries were counted, error %w; want %d", rows.Session.WrongTries, err, 4*each)
	}
	return nil
}

// checkReplacedSession replaces a session that another node remembers. In one batch of that node, a
// unit names it by its key and changes nothing, and another one names it by its new sid: both find
// the new session.
func checkReplacedSession(ctx context.Context, a, b store.Store, names store.Names) error {
	key := store.Names{Session: names.Session}
	replace := func(s store.Store, sid string) error {
		return s.Update(ctx, key, func(rows *store.Rows) error {
			rows.Session = store.Session{Key: names.Session.Key, SID: sid, MSISDN: "1", ExpiresAt: 1 << 40}
			return nil
		})
	}
	if err := errors.Join(replace(a, "sid-1"), remember(ctx, a, key), replace(b, "sid-2")); err != nil {
		return err
	}
	begun, release, errs := make(chan struct{}), make(chan struct{}), make(chan error, 3)
	var once sync.Once
	go func() { // the units that arrive in the meantime share the next batch
		errs <- a.Update(ctx, store.Names{Records: names.Records}, func(*store.Rows) error {
			once.Do(func() { close(begun) })
			<-release
			return nil
		})
	}()
	<-begun
	for _, by := range []store.Names{key, {Session: store.SessionRef{SID: "sid-2"}}} {
		go func() {
			errs <- a.Update(ctx, by, func(rows *store.Rows) error {
				if by.Session.SID == "" {
					return nil
				}
				if rows.Session.SID != "sid-2" {
					return fmt.Errorf("the session sid-2 is %+v", rows.Session)
				}
				rows.Session.WrongTries++
				return nil
			})
		}()
	}
	time.Sleep(100 * time.Millisecond)
	close(release)
	err := errors.Join(<-errs, <-errs, <-errs)
	rows, viewErr := b.View(ctx, key)
	if err := errors.Join(err, viewErr); err != nil {
		return err
	}
	if rows.Session.SID != "sid-2" || rows.Session.WrongTries != 1 {
		return fmt.Errorf("the session is %+v", rows.Session)
	}
	return nil
}
