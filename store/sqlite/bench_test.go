package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/store"
)

// BenchmarkCycle measures what a fresh request needs of the store: a view, a claim and the record
// of its outcome. The last two are durable.
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
	rows, err := s.View(ctx, store.Names{Session: store.SessionRef{Key: one.Key}})
	if rows.Session.SID != "" {
		b.Errorf("session %d is there", n)
	}
	err = errors.Join(
		err,
		putSession(ctx, s, one),
		s.Update(ctx, store.Names{Session: store.SessionRef{SID: one.SID}}, func(rows *store.Rows) error {
			rows.Session.Attempt = 1
			return nil
		}),
	)
	if err != nil {
		b.Error(err)
	}
}

// BenchmarkDeleteExpired measures the deletion of one chunk, for which other writers wait. The rows
// are spread over the table, like those of a busy day.
func BenchmarkDeleteExpired(b *testing.B) {
	const stored, chunk = 100_000, 100
	s := open(b, filepath.Join(b.TempDir(), "threepid.db"))
	fill := func() {
		var wg sync.WaitGroup
		for c := range 256 { // the store batches these units
			wg.Go(func() {
				for i := c; i < stored; i += 256 {
					err := putSession(b.Context(), s, store.Session{
						Key: store.SessionKey("secret", "GB", fmt.Sprint(i)), SID: fmt.Sprintf("%039d", i),
						MSISDN: "447400123456", Country: "GB", Nonce: make([]byte, 32), ExpiresAt: int64(i * 7919 % stored),
					})
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
	}
	for b.Loop() {
		n, err := s.DeleteExpired(b.Context(), time.UnixMilli(stored), chunk)
		if err != nil {
			b.Fatal(err)
		}
		if n == 0 { // at the beginning, and when all are deleted
			b.StopTimer()
			fill()
			b.StartTimer()
		}
	}
}
