package verify

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"example.com/threepid/internal/texts"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
)

// TestSessionBecomesADecoy turns a session into a decoy and back. Codes and validations from before become
// invalid, but wrong tries still count.
func TestSessionBecomesADecoy(t *testing.T) {
	t.Parallel()
	validated := claimedSession()
	validated.ValidatedAt, validated.WrongTries = minute, 2
	redeemed := validated
	redeemed.RedeemedAt = 2 * minute
	used := claimedSession()
	used.WrongTries = maxTries
	tried := claimedSession()
	tried.WrongTries = 3
	for _, row := range []struct {
		name  string
		s     store.Session
		tries int
	}{
		{"new", claimedSession(), 0}, {"tried", tried, 3}, {"used up", used, 0}, {"validated", validated, 2}, {"redeemed", redeemed, 0},
	} {
		s, request := row.s, Request{Attempt: 2, Purpose: store.PurposeAdd}
		for i, decoy := range []bool{true, false, true} {
			old := s.Nonce
			s = claimed(s, request, decoy, "", fresh(byte(10+i)), spans, 3*minute)
			if bytes.Equal(s.Nonce, old) || s.ValidatedAt != 0 || s.RedeemedAt != 0 || s.Decoy != decoy || s.WrongTries != row.tries {
				t.Errorf("%s, decoy %v: %+v", row.name, decoy, s)
			}
			if s.ExpiresAt != 3*minute+spans.session.Milliseconds() || s.TokenExpiresAt != 3*minute+spans.token.Milliseconds() {
				t.Errorf("%s, decoy %v: until %d, the token until %d", row.name, decoy, s.ExpiresAt, s.TokenExpiresAt)
			}
		}
		same := claimed(s, request, true, "", fresh(99), spans, 4*minute)
		if !bytes.Equal(same.Nonce, s.Nonce) {
			t.Errorf("%s: a decoy that remains one has another nonce", row.name)
		}
	}
}

// TestDecoysTokenIsWrong submits the token that would result from a decoy's row and secret. The
// response is the same as for a wrong token, and nothing is validated.
func TestDecoysTokenIsWrong(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	if err := st.Associate(t.Context(), store.Association{UserID: "alice", MSISDN: "447400123456"}); err != nil {
		t.Fatal(err)
	}
	sent := smstest.New()
	s := New(Config{
		Store: st, Accounts: st, Sender: sent, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Random: rand.Reader,
		Text:        func(_ texts.Kind, _, code string) (string, string) { return "Your code: " + code, "en" },
		TokenDigits: 6, TokenLifetime: 10 * time.Minute, SessionLifetime: 24 * time.Hour, SendTimeout: time.Second, Conceal: true,
	})
	ask := func(purpose store.Purpose, secret string) (sess store.Session, derived string) {
		r := Request{Purpose: purpose, ClientSecret: secret, Country: "GB", PhoneNumber: "+447400123456", Attempt: 1}
		receipt, err := s.Request(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := st.View(t.Context(), store.Names{Session: bySID(receipt.SID)})
		if err != nil {
			t.Fatal(err)
		}
		sess = rows.Session
		return sess, token(sess.Nonce, sess, secret, 6)
	}
	for _, purpose := range []store.Purpose{store.PurposeAdd, store.PurposeRegister} {
		sess, derived := ask(purpose, "to-"+string(purpose))
		submitWrong(t, s, sess.SID, "to-"+string(purpose), derived)
		if m, _ := sent.Last(); strings.Contains(m.Text, derived) {
			t.Errorf("%s: the SMS is %q", purpose, m.Text)
		}
	}
	sess, derived := ask(store.PurposePassword, "mine") // no decoy: shows how tokens are derived
	if _, err := s.Submit(t.Context(), Submission{SID: sess.SID, ClientSecret: "mine", Token: derived}); err != nil {
		t.Errorf("a session's own token: %v", err)
	}
}

func submitWrong(t *testing.T, s *Service, sid, secret, token string) {
	t.Helper()
	var refusal *Error
	_, err := s.Submit(context.Background(), Submission{SID: sid, ClientSecret: secret, Token: token})
	if !errors.As(err, &refusal) || refusal.Code != TokenIncorrect {
		t.Errorf("Submit: %v", err)
	}
	if _, err := s.Validated(context.Background(), sid, secret); !errors.Is(err, ErrNotValidated) {
		t.Errorf("Validated: %v", err)
	}
	if _, err := s.Redeem(context.Background(), sid, secret); !errors.Is(err, ErrNotValidated) {
		t.Errorf("Redeem: %v", err)
	}
}
