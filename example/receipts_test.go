package main_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	example "example.com/threepid/example"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestReceipts posts a delivery receipt for an SMS that a gateway accepted, twice, and a forged one.
// The receipt must appear once on the timeline of the number.
func TestReceipts(t *testing.T) {
	t.Parallel()
	ids := make(chan string, 10)
	gateway := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct{ ID string }
		_ = json.NewDecoder(r.Body).Decode(&m)
		ids <- m.ID
	}))
	defer gateway.Close()
	s := launchWith(t, []string{"THREEPID_WEBHOOK_SECRET=" + hookSecret}, "-sms", "webhook:"+gateway.URL, "-receipts-url", "http://127.0.0.1", "-ops-listen", "127.0.0.1:0")
	s.await()
	ops := s.stdout.find(t, `health for operators: (http://[a-z0-9.:]+)`)
	if status, fields := s.post(s.url+"/_api/client/v3/account/3pid/msisdn/requestToken", body); status != http.StatusOK {
		t.Fatalf("requestToken: %d %v", status, fields)
	}
	text := `{"id":"` + <-ids + `","status":"failed","reason":"30005"}`
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(hookSecret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	post := func(signature string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/receipts/webhook", strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		at := fmt.Sprint(time.Now().Unix())
		mac := hmac.New(sha256.New, key)
		_, _ = mac.Write([]byte("m-1." + at + "." + text))
		if signature == "" {
			signature = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		}
		req.Header = http.Header{"Webhook-Id": {"m-1"}, "Webhook-Timestamp": {at}, "Webhook-Signature": {signature}}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	if status := post("v1,Zm9yZ2Vk"); status != http.StatusForbidden {
		t.Errorf("a forged receipt: %d", status)
	}
	for range 2 {
		if status := post(""); status != http.StatusNoContent {
			t.Errorf("a receipt: %d", status)
		}
	}
	res, err := http.Post(ops+"/api/v1/number/explain", "application/json", strings.NewReader(`{"number":"+447700900001"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	explained, err := io.ReadAll(res.Body)
	if err != nil || strings.Count(string(explained), `"type": "receipt"`) != 1 || !strings.Contains(string(explained), `"reason": "30005"`) {
		t.Errorf("the timeline does not contain exactly one receipt: %s, %v", explained, err)
	}
}

// TestReceiptSettings checks that -receipts-url is refused if the provider has no delivery receipts,
// or if the environment lacks a setting for them.
func TestReceiptSettings(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"TWILIO_ACCOUNT_SID": "AC1", "TWILIO_API_KEY": "SK1", "TWILIO_API_SECRET": "s", "TWILIO_FROM": "+1",
		"VONAGE_API_KEY": "k", "VONAGE_API_SECRET": "s", "VONAGE_FROM": "A",
		"INFOBIP_BASE_URL": "https://infobip.example", "INFOBIP_API_KEY": "k", "INFOBIP_FROM": "A",
		"PLIVO_AUTH_ID": "a", "PLIVO_FROM": "+1",
	}
	for list, missing := range map[string]string{
		"console":                  "no provider of -sms has delivery receipts",
		"webhook:http://x":         "THREEPID_WEBHOOK_SECRET",
		"gateway:http://x/{{.To}}": "THREEPID_GATEWAY_RECEIPT_SECRET",
		"twilio":                   "TWILIO_AUTH_TOKEN",
		"vonage":                   "VONAGE_SIGNATURE_SECRET",
		"infobip":                  "INFOBIP_RECEIPT_TOKEN",
		"plivo":                    "PLIVO_AUTH_TOKEN",
	} {
		_, err := example.OpenSender(list, "https://example.org", func(name string) string { return settings[name] }, io.Discard, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("%s: got error %v, want one that contains %s", list, err, missing)
		}
	}
}
