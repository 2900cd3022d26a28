package db_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/store"
	"example.com/threepid/store/gormstore"
)

// BenchmarkFresh measures what a fresh request needs of the store: two views, a claim that creates
// a session and n records, and a unit that records its outcome.
func BenchmarkFresh(b *testing.B) {
	for _, s := range servers() {
		for _, records := range []int{0, 1, 7} {
			for _, callers := range []int{1, 32} {
				b.Run(fmt.Sprintf("%s/%d records/%d callers", s.name, records, callers), func(b *testing.B) {
					if os.Getenv(s.variable) == "" {
						b.Skipf("set %s to the URL of a database to run this; see CONTRIBUTING.md", s.variable)
					}
					s := s.at(b)
					st := migrated(b, newStore(b, connect(b, s.dialector(s.newDatabase(b)), 2*connections), gormstore.Options{}))
					benchmarkFresh(b, st, records, callers)
				})
			}
		}
	}
}

func benchmarkFresh(b *testing.B, st *gormstore.Store, records, callers int) {
	b.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	begin := time.Now()
	for range callers {
		wg.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if err := fresh(b.Context(), st, i, records); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "requests/s")
}

func fresh(ctx context.Context, st *gormstore.Store, n int64, records int) error {
	key := store.SessionKey("secret", "GB", fmt.Sprint(n))
	names := store.Names{Session: store.SessionRef{Key: key}}
	for i := range records {
		names.Records = append(names.Records, store.RecordKey("scope", fmt.Sprint(i), fmt.Sprint(n)))
	}
	sid := fmt.Sprintf("sid%029d", n)
	_, first := st.View(ctx, store.Names{Session: names.Session})
	_, second := st.View(ctx, names)
	return errors.Join(first, second,
		st.Update(ctx, names, func(rows *store.Rows) error {
			rows.Session = store.Session{
				Key: key, SID: sid, MSISDN: "447400123456", Country: "GB", Purpose: store.PurposeAdd, Attempt: -1,
				ClaimID: sid, ClaimAttempt: 1, LeaseUntil: 1_700_000_000_000, Nonce: key[:], ExpiresAt: 1_700_000_000_000,
			}
			for i := range rows.Records {
				rows.Records[i].State, rows.Records[i].ExpiresAt = `{"t":[1700000000000,1700000000000],"w":[1700000000000]}`, 1_700_000_000_000
			}
			return nil
		}),
		st.Update(ctx, store.Names{Session: store.SessionRef{SID: sid}}, func(rows *store.Rows) error {
			rows.Session.Attempt, rows.Session.LeaseUntil, rows.Session.Outcome = 1, 0, store.OutcomeAccepted
			return nil
		}),
	)
}
