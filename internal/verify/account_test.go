package verify_test

import (
	"context"
	"errors"
	"testing"

	"example.com/threepid/internal/verify"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// hangingUp cancels the caller's context when the number is on the account.
type hangingUp struct {
	store.Accounts
	hangUp func()
}

func (h *hangingUp) Associate(ctx context.Context, a store.Association) error {
	defer h.hangUp()
	return h.Accounts.Associate(ctx, a)
}

// TestAddIsConsumedWhenTheCallerDisconnects disconnects the caller after the account has the number and
// before that is recorded. Otherwise a user could use this timing to add a released number again
// with an old proof.
func TestAddIsConsumedWhenTheCallerDisconnects(t *testing.T) {
	t.Parallel()
	inner, texts := memstore.New(), smstest.New()
	ctx, cancel := context.WithCancel(t.Context())
	c := config(inner, &hangingUp{inner, cancel})
	c.Sender = texts
	service := verify.New(c)
	defer service.Close()
	receipt, err := service.Request(t.Context(), request(1))
	if err != nil {
		t.Fatal(err)
	}
	m, _ := texts.Last()
	if _, err := service.Submit(t.Context(), verify.Submission{SID: receipt.SID, ClientSecret: "secret", Token: m.Text}); err != nil {
		t.Fatal(err)
	}
	addition := verify.Addition{SID: receipt.SID, ClientSecret: "secret"}
	if err := service.Add(ctx, "alice", addition); err != nil {
		t.Errorf("Add: %v", err)
	}
	if err := service.Release(t.Context(), "+"+receipt.Number.MSISDN); err != nil {
		t.Fatal(err)
	}
	var refusal *verify.Error
	if err := service.Add(t.Context(), "alice", addition); !errors.As(err, &refusal) || refusal.Code != verify.AuthFailed {
		t.Errorf("Add of a number that was released: %v", err)
	}
}
