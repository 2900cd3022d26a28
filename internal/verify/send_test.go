package verify_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.com/threepid/internal/verify"
	"example.com/threepid/sms"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// TestSenderThatFailsAtTheDeadline uses a sender that waits until its deadline and then reports that
// nothing was sent, as compose.Throttle may. That SMS does not count as one that may have been
// sent.
func TestSenderThatFailsAtTheDeadline(t *testing.T) {
	t.Parallel()
	inner := memstore.New()
	c := config(inner, inner)
	c.SendTimeout = 20 * time.Millisecond
	c.Sender = sms.Func(func(ctx context.Context, _ sms.Message) error {
		<-ctx.Done()
		time.Sleep(time.Millisecond)
		return errors.New("nothing was sent")
	})
	service := verify.New(c)
	defer service.Close()
	if _, err := service.Request(t.Context(), request(1)); err == nil {
		t.Fatal("no error")
	}
	if sess := viewKey(t, inner); sess.Outcome != store.OutcomeFailed {
		t.Errorf("outcome %q", sess.Outcome)
	}
}

// viewKey returns the session of the number 447700900001 with the client_secret
// "secret".
func viewKey(t *testing.T, s store.Store) store.Session {
	t.Helper()
	key := store.SessionKey("secret", "GB", "447700900001")
	rows, err := s.View(t.Context(), store.Names{Session: store.SessionRef{Key: key}})
	if err != nil || rows.Session.SID == "" {
		t.Errorf("there is no session: error %v", err)
	}
	return rows.Session
}
