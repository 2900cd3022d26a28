package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/store"
)

// BenchmarkCycle measures what a fresh request asks of the store: a look, a
// claim and its end, the latter two durable.
func BenchmarkCycle(b *testing.B) {
	for _, callers := range []int{1, 8, 32} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s := open(b, filepath.Join(b.TempDir(), "threepid.db"))
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism((callers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			if callers == 1 {
				for b.Loop() {
					cycle(b, s, n.Add(1))
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					cycle(b, s, n.Add(1))
				}
			})
		})
	}
}

func cycle(b *testing.B, s store.Store, n int64) {
	b.Helper()
	ctx := context.Background()
	one := store.Session{
		Key: store.SessionKey("secret", "GB", fmt.Sprint(n)), SID: fmt.Sprintf("%032d", n),
		MSISDN: "447400123456", Country: "GB", Nonce: make([]byte, 32), Attempt: -1, ExpiresAt: n,
	}
	read := func(tx store.Tx) error {
		if _, err := tx.SessionByKey(one.Key); !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("session %d: %w", n, err)
		}
		return nil
	}
	err := errors.Join(
		s.View(ctx, read),
		s.Update(ctx, func(tx store.Tx) error { return errors.Join(read(tx), tx.PutSession(one)) }),
		s.Update(ctx, func(tx store.Tx) error {
			found, err := tx.SessionBySID(one.SID)
			if err != nil {
				return err
			}
			found.Attempt = 1
			return tx.PutSession(found)
		}),
	)
	if err != nil {
		b.Error(err)
	}
}

// BenchmarkDeleteExpired measures one chunk of what the janitor does: for that
// long the writer is not to be had. Its rows are spread over the table as those
// of a busy day are.
func BenchmarkDeleteExpired(b *testing.B) {
	const stored, chunk = 100_000, 50
	s := open(b, filepath.Join(b.TempDir(), "threepid.db"))
	fill := func() {
		for first := 0; first < stored; first += 1000 {
			err := s.Update(b.Context(), func(tx store.Tx) error {
				for i := first; i < first+1000; i++ {
					one := store.Session{
						Key: store.SessionKey("secret", "GB", fmt.Sprint(i)), SID: fmt.Sprintf("%039d", i),
						MSISDN: "447400123456", Country: "GB", Nonce: make([]byte, 32), ExpiresAt: int64(i * 7919 % stored),
					}
					if err := tx.PutSession(one); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		n, err := s.DeleteExpired(b.Context(), time.UnixMilli(stored), chunk)
		if err != nil {
			b.Fatal(err)
		}
		if n == 0 { // at the beginning, and when all are gone
			b.StopTimer()
			fill()
			b.StartTimer()
		}
	}
}
