package admin_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/admin"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
)

// asked returns a step that requests an SMS to the number. If err is not nil, the sender fails with it.
func asked(err error) func(*testing.T, *host) {
	return func(t *testing.T, h *host) {
		t.Helper()
		if err != nil {
			h.sender.Fail(err)
		}
		if got := h.ask(t, number, false); got != nil && err == nil {
			t.Fatal(got)
		}
	}
}

// received returns a step that records a receipt for the SMS that is but SMS older than the latest.
func received(but int, status sms.Delivery) func(*testing.T, *host) {
	return func(t *testing.T, h *host) {
		t.Helper()
		h.advance(time.Second)
		all := h.sender.Messages()
		if err := h.plugin.RecordReceipt(t.Context(), sms.Receipt{MessageID: all[len(all)-1-but].ID, Status: status}); err != nil {
			t.Fatal(err)
		}
	}
}

// confirmed confirms the number.
func confirmed(t *testing.T, h *host) {
	t.Helper()
	if err := h.ask(t, number, true); err != nil {
		t.Fatal(err)
	}
}

// refused requests SMS until a limit refuses one.
func refused(t *testing.T, h *host) {
	t.Helper()
	for range 10 {
		if h.ask(t, number, false) != nil {
			return
		}
	}
	t.Fatal("nothing was refused")
}

// mistyped submits a wrong code.
func mistyped(t *testing.T, h *host) {
	t.Helper()
	response, err := h.plugin.RequestToken(t.Context(), threepid.TokenRequest{
		Purpose: threepid.PurposeAdd, ClientSecret: "mistyped", PhoneNumber: number, SendAttempt: 1, ClientKey: "192.0.2.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.plugin.SubmitToken(t.Context(), threepid.TokenSubmission{SID: response.SID, ClientSecret: "mistyped", Token: "x"}); err == nil {
		t.Fatal("a wrong code is right")
	}
}

func waitedAnHour(t *testing.T, h *host) {
	t.Helper()
	h.advance(time.Hour)
}

func waited(t *testing.T, h *host) {
	t.Helper()
	h.advance(10 * time.Minute)
}

// TestVerdict checks the sentence that says why a person gets no code.
func TestVerdict(t *testing.T) {
	t.Parallel()
	const (
		fixed  = "+447700900009"
		at     = "2026-03-01 12:30 UTC"
		passed = "Nothing blocks this number. The latest SMS was passed to smstest at " + at
	)
	type steps []func(*testing.T, *host)
	for name, test := range map[string]struct {
		number string
		before steps
		want   string
	}{
		"nothing":      {number, nil, "Nothing blocks this number. No request for it is known"},
		"policy":       {"+33612345678", nil, "because the policy refuses it"},
		"test number":  {fixed, nil, "because it is a test number"},
		"no receipt":   {number, steps{asked(nil)}, passed + "; no delivery receipt was received. No code has been submitted since."},
		"delivered":    {number, steps{asked(nil), received(0, sms.Delivered)}, passed + "; it was delivered to the phone. No code"},
		"undelivered":  {number, steps{asked(nil), received(0, sms.Undelivered)}, passed + "; the network did not deliver it. No code"},
		"delayed":      {number, steps{asked(nil), received(0, sms.Delayed)}, passed + "; it is not delivered yet. No code"},
		"not known":    {number, steps{asked(nil), received(0, sms.DeliveryUnknown)}, passed + "; whether it was delivered is not known. No code"},
		"an older SMS": {number, steps{asked(nil), asked(nil), received(1, sms.Delivered)}, passed + "; no delivery receipt"},
		"two receipts": {number, steps{asked(nil), received(0, sms.Delayed), received(0, sms.Delivered)}, passed + "; it was delivered"},
		"in reverse":   {number, steps{asked(nil), asked(nil), received(0, sms.Delivered), received(1, sms.Undelivered)}, passed + "; it was delivered"},
		"validated":    {number, steps{confirmed}, "Nothing blocks this number. It was validated at " + at},
		"failed":       {number, steps{asked(errors.New("busy"))}, "was not sent: smstest failed."},
		"unreachable":  {number, steps{asked(sms.ErrRejected)}, "was not sent: smstest cannot reach this number."},
		"uncertain":    {number, steps{asked(sms.ErrUncertain)}, "smstest did not respond in time to the latest SMS, at " + at + "; no delivery receipt"},
		"blocked":      {number, steps{refused}, "SMS to this number are refused until 2026-03-01 12:40 UTC. The blocks are listed below."},
		"codes":        {number, steps{mistyped}, "Codes for this number are refused until 2026-03-01 13:30 UTC"},
		"wrong code":   {number, steps{mistyped, waitedAnHour}, "no delivery receipt was received. One wrong code has been submitted since."},
		"no longer":    {number, steps{refused, waited}, "The latest request, at " + at + ", was refused: the limit on SMS to one number was reached."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := start(t, admin.Options{}, func(o *threepid.Options) {
				o.Limits.WrongCodesPerNumber = []limits.Limit{{Burst: 1, Every: time.Hour}}
				o.Limits.WrongCodesPerNumberAndClient, o.Limits.ReserveCodes = []limits.Limit{}, []limits.Limit{}
				o.Policy.AllowCountries = []string{"GB"}
				o.Policy.TestNumbers = []limits.TestNumber{{Number: fixed, Code: "123456"}}
			})
			for _, step := range test.before {
				step(t, h)
			}
			expect(t, name, h.do(t, http.MethodPost, "/number", form("number", test.number)), http.StatusOK, test.want)
		})
	}
}
