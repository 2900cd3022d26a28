package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/sqlite"
)

// fewSessions is the size of the small database.
const fewSessions = 10_000

// growth sends fresh requests to the example over a small database and over a large one,
// alternately.
func growth(ctx context.Context, cfg config, out io.Writer) (err error) {
	sizes := []int{fewSessions, cfg.sessions}
	servers := make([]*server, len(sizes))
	defer func() {
		for _, s := range servers {
			if s != nil {
				err = errors.Join(err, s.stop())
			}
		}
	}()
	for i, n := range sizes {
		db := filepath.Join(cfg.dir, fmt.Sprintf("%d.db", i))
		begin := time.Now()
		if err := fill(ctx, db, n); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "%d sessions stored in %v\n", n, time.Since(begin).Round(time.Second))
		s, err := startExample(ctx, cfg.dir, "-db", db, "-limits", "off")
		if err != nil {
			return err
		}
		servers[i] = s
	}
	found := make([]map[int][]result, len(sizes))
	for range cfg.rounds {
		for i, s := range servers {
			if found[i] == nil {
				found[i] = map[int][]result{}
			}
			if err := driveAll(ctx, s, cfg, found[i]); err != nil {
				return err
			}
		}
	}
	for _, callers := range cfg.callers {
		small, large := found[0][callers], found[1][callers]
		_, _ = fmt.Fprintf(out, "%d callers: %.0f requests/s with %d sessions, %.0f with %d: the same costs %.2f times as much\n",
			callers, perSecond(small), sizes[0], perSecond(large), sizes[1], perSecond(small)/perSecond(large))
	}
	return nil
}

// driveAll adds a result for each number of callers.
func driveAll(ctx context.Context, s *server, cfg config, found map[int][]result) error {
	if _, err := drive(ctx, []string{s.addr}, newWork("fresh", nil), 1, min(warmUp, cfg.duration)); err != nil {
		return err
	}
	for _, callers := range cfg.callers {
		r, err := drive(ctx, []string{s.addr}, newWork("fresh", nil), callers, cfg.duration)
		if err != nil {
			return err
		}
		found[callers] = append(found[callers], r)
	}
	return nil
}

// fill stores n sessions that look as if they had existed for a while.
func fill(ctx context.Context, db string, n int) (err error) {
	s, err := sqlite.Open(db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const callers = 256 // the store batches their units
	now := time.Now()
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < n && errs[c] == nil; i += callers {
				errs[c] = put(ctx, s, stored(i, now))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// put creates or replaces a session.
func put(ctx context.Context, s store.Store, session store.Session) error {
	return s.Update(ctx, store.Names{Session: store.SessionRef{Key: session.Key}}, func(rows *store.Rows) error {
		rows.Session = session
		return nil
	})
}

// stored returns the i-th session, for which an SMS was sent and no code submitted.
func stored(i int, now time.Time) store.Session {
	const numbers = 1_000_000
	number := fmt.Sprintf("447400%06d", i%numbers)
	expires := now.Add(time.Duration(i) * time.Microsecond).Add(24 * time.Hour).UnixMilli()
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // it never fails
	return store.Session{
		Key: store.SessionKey(fmt.Sprint("stored", i), "GB", number), SID: fmt.Sprintf("%039d", i),
		MSISDN: number, Country: "GB", Purpose: store.PurposeAdd, Attempt: 1,
		ClaimID: fmt.Sprintf("%026d", i), ClaimAttempt: 1, Outcome: store.OutcomeAccepted,
		Nonce: nonce, TokenExpiresAt: expires, CreatedAt: now.UnixMilli(), ExpiresAt: expires,
	}
}
