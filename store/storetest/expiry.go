package storetest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/threepid/store"
)

// expiryChecks check DeleteExpired.
func expiryChecks() []storeCheck {
	return []storeCheck{
		{"ExpiredIsFoundUntilDeleted", checkExpiredFound},
		{"DeleteExpiredBoundary", checkBoundary},
		{"DeleteExpiredInChunks", checkChunks},
	}
}

func checkExpiredFound(ctx context.Context, s store.Store) error {
	long := sample(1)
	long.ExpiresAt = 1 // 1970
	if err := put(ctx, s, long); err != nil {
		return err
	}
	if err := expect(ctx, s, long); err != nil {
		return fmt.Errorf("a session that expired: %w", err)
	}
	long.WrongTries++
	if err := change(ctx, s, long.Key, func(session *store.Session) { session.WrongTries++ }); err != nil {
		return err
	}
	return expect(ctx, s, long)
}

func checkBoundary(ctx context.Context, s store.Store) error {
	const now = 1_700_000_000_000
	before, at, after := sample(1), sample(2), sample(3)
	before.ExpiresAt, at.ExpiresAt, after.ExpiresAt = now-1, now, now+1
	if err := put(ctx, s, before, at, after); err != nil {
		return err
	}
	// The latest expiry counts, not the first.
	if err := change(ctx, s, before.Key, func(session *store.Session) { session.ExpiresAt = now + 2 }); err != nil {
		return err
	}
	before.ExpiresAt = now + 2
	n, err := s.DeleteExpired(ctx, time.UnixMilli(now), 10)
	if err != nil || n != 1 {
		return fmt.Errorf("DeleteExpired with one session that expires now and two that do later: %d, error %w; want 1", n, orNone(err))
	}
	if err := errors.Join(expectNone(ctx, s, at), expect(ctx, s, before), expect(ctx, s, after)); err != nil {
		return err
	}
	if err := put(ctx, s, at); err != nil {
		return fmt.Errorf("the session that was deleted, again: %w", err)
	}
	return expect(ctx, s, at)
}

func checkChunks(ctx context.Context, s store.Store) error {
	const total, limit = 25, 10
	expired := make([]store.Session, total)
	for i := range expired {
		expired[i] = sample(i)
	}
	keeps := sample(total)
	keeps.ExpiresAt += 1_000_000
	if err := put(ctx, s, append(expired, keeps)...); err != nil {
		return err
	}
	now := time.UnixMilli(expired[total-1].ExpiresAt)
	for i, want := range []int{limit, limit, total - 2*limit, 0} {
		n, err := s.DeleteExpired(ctx, now, limit)
		if err != nil || n != want {
			return fmt.Errorf("DeleteExpired of %d sessions, limit %d, call %d: %d, error %w; want %d", total, limit, i+1, n, orNone(err), want)
		}
		left, err := count(ctx, s, expired)
		if wantLeft := max(0, total-limit*(i+1)); err != nil || left != wantLeft {
			return fmt.Errorf("after call %d: %d sessions left, error %w; want %d", i+1, left, orNone(err), wantLeft)
		}
	}
	return expect(ctx, s, keeps)
}

// count returns how many of the sessions exist.
func count(ctx context.Context, s store.Store, sessions []store.Session) (n int, err error) {
	for i := range sessions {
		rows, err := s.View(ctx, byKey(sessions[i].Key))
		if err != nil {
			return 0, err
		}
		if rows.Session.SID != "" {
			n++
		}
	}
	return n, nil
}
