package verify

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// fillingJournal adds other receipts while a receipt waits for its message.
type fillingJournal struct {
	*memstore.Store
	fill func()
}

func (j *fillingJournal) EntriesByRef(ctx context.Context, ref store.Key, limit int) ([]store.Entry, error) {
	j.fill()
	return j.Store.EntriesByRef(ctx, ref, limit)
}

// TestReceiptWithoutRoomIsReported fills the queue while a receipt is looked up. The receipt is
// reported without its SMS, and not lost.
func TestReceiptWithoutRoomIsReported(t *testing.T) {
	t.Parallel()
	reported := make(chan observe.Event, 1)
	st := &fillingJournal{Store: memstore.New()}
	s := New(Config{
		Store: st, Accounts: st, Logger: slog.New(slog.DiscardHandler), Now: time.Now, JournalLifetime: time.Hour,
		Observer: observe.Func(func(_ context.Context, e observe.Event) { reported <- e }),
	})
	defer s.Close()
	st.fill = func() {
		for i := range maxEarly {
			s.early.add(earlyReceipt{ctx: t.Context(), receipt: sms.Receipt{MessageID: fmt.Sprint(i)}})
		}
	}
	until := s.Now().Add(earlyWait)
	s.early.add(earlyReceipt{ctx: t.Context(), receipt: sms.Receipt{MessageID: "first"}, until: until})
	s.settleReceipts(t.Context(), false)
	select {
	case e := <-reported:
		if r, ok := e.(observe.Receipt); !ok || r.MessageID != "first" {
			t.Errorf("reported %+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("the receipt is lost")
	}
	s.early.take()
}
