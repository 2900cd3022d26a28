package verify_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// hangingJournal finds no messages after hangs is set, and blocks until the context ends.
type hangingJournal struct {
	*memstore.Store
	hangs atomic.Bool
}

func (j *hangingJournal) EntriesByRef(ctx context.Context, ref store.Key, limit int) ([]store.Entry, error) {
	if j.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return j.Store.EntriesByRef(ctx, ref, limit)
}

// receipts are the receipts that an Observer received.
type receipts struct {
	mu   sync.Mutex
	list []observe.Receipt
}

func (r *receipts) Observe(_ context.Context, e observe.Event) {
	if receipt, ok := e.(observe.Receipt); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list = append(r.list, receipt)
	}
}

// TestCloseWhileReceiptsWait closes a service whose database has stopped responding, while receipts
// wait for their SMS. Close does not wait for the database once for each of them, and none is lost.
func TestCloseWhileReceiptsWait(t *testing.T) {
	t.Parallel()
	const waiting = 20
	for name, pass := range map[string]time.Duration{"before a pass": 0, "during a pass": 2500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && pass > 0 {
				t.Skip("a pass begins after two seconds")
			}
			st := &hangingJournal{Store: memstore.New()}
			var heard receipts
			c := config(st, st)
			c.JournalLifetime, c.Observer = time.Hour, &heard
			service := verify.New(c)
			service.Start()
			for i := range waiting {
				if err := service.RecordReceipt(t.Context(), sms.Receipt{Provider: "acme", MessageID: fmt.Sprint("id", i), Status: sms.Delivered}); err != nil {
					t.Fatal(err)
				}
			}
			st.hangs.Store(true)
			time.Sleep(pass)
			begin := time.Now()
			service.Close()
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("Close took %v", took)
			}
			heard.mu.Lock()
			defer heard.mu.Unlock()
			if len(heard.list) != waiting {
				t.Errorf("%d receipts of %d were reported", len(heard.list), waiting)
			}
		})
	}
}

// slowJournal takes a while to find a message.
type slowJournal struct {
	*memstore.Store
	entries atomic.Int64
}

func (j *slowJournal) EntriesByRef(ctx context.Context, ref store.Key, limit int) ([]store.Entry, error) {
	select {
	case <-time.After(20 * time.Millisecond):
		return j.Store.EntriesByRef(ctx, ref, limit)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (j *slowJournal) AddEntries(ctx context.Context, entries []store.Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.entries.Add(int64(len(entries)))
	return j.Store.AddEntries(ctx, entries)
}

// TestReceiptsLeaveTimeForTheHistory closes a service while many receipts wait. The database is too
// slow to find all of their messages in time, but the journal is written.
func TestReceiptsLeaveTimeForTheHistory(t *testing.T) {
	t.Parallel()
	st := &slowJournal{Store: memstore.New()}
	c := config(st, st)
	c.JournalLifetime = time.Hour
	service := verify.New(c)
	var wg sync.WaitGroup
	for i := range 500 {
		wg.Go(func() {
			if err := service.RecordReceipt(t.Context(), sms.Receipt{MessageID: fmt.Sprint("id", i), Status: sms.Delivered}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := service.Request(t.Context(), request(1)); err != nil {
		t.Fatal(err)
	}
	service.Close()
	if st.entries.Load() == 0 {
		t.Error("the journal has no entries")
	}
}
