package receipt_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"example.com/threepid/internal/providertest"
	"example.com/threepid/sms"
	"example.com/threepid/sms/gateway"
	"example.com/threepid/sms/infobip"
	"example.com/threepid/sms/plivo"
	"example.com/threepid/sms/twilio"
	"example.com/threepid/sms/vonage"
)

// TestSendersAskForReceipts checks that each provider's sender passes on the URL for receipts, and
// reports the message ID that the receipts will contain.
func TestSendersAskForReceipts(t *testing.T) {
	t.Parallel()
	const receipts = "https://example.org/receipts?token=a b"
	for name, row := range map[string]struct {
		open     func(base, receipts string) (sms.Sender, error)
		response string
		parts    []string
		id       string
	}{
		"twilio": {func(base, receipts string) (sms.Sender, error) {
			return twilio.New(twilio.Options{AccountSID: "AC1", AuthToken: "t", From: "+1", BaseURL: base, ReceiptURL: receipts})
		}, `{"sid":"SM1","status":"queued"}`, []string{"StatusCallback=" + url.QueryEscape(receipts)}, "SM1"},
		"vonage": {func(base, receipts string) (sms.Sender, error) {
			return vonage.New(vonage.Options{APIKey: "k", APISecret: "s", From: "A", BaseURL: base, ReceiptURL: receipts})
		}, `{"messages":[{"status":"0","message-id":"0C1"}]}`, []string{"callback=" + url.QueryEscape(receipts), "status-report-req=1"}, "0C1"},
		"infobip": {func(base, receipts string) (sms.Sender, error) {
			return infobip.New(infobip.Options{BaseURL: base, APIKey: "k", From: "A", ReceiptURL: receipts})
		}, `{"messages":[{"messageId":"x","status":{"groupId":1,"name":"PENDING_ACCEPTED"}}]}`, []string{`"webhooks":{"delivery":{"url":"` + receipts + `"}}`}, providertest.Message().ID},
		"plivo": {func(base, receipts string) (sms.Sender, error) {
			return plivo.New(plivo.Options{AuthID: "a", AuthToken: "t", From: "+1", BaseURL: base, ReceiptURL: receipts})
		}, `{"message_uuid":["u-1"]}`, []string{`"url":"` + receipts + `"`, `"method":"POST"`}, "u-1"},
		"kannel": {func(base, receipts string) (sms.Sender, error) {
			return gateway.New(gateway.WithKannelReceipts(gateway.Kannel(base+"/send", "me", "k", "A"), strings.TrimSuffix(receipts, "?token=a b"), secret))
		}, "0: Accepted for delivery", []string{"dlr-mask=19", "dlr-url=" + url.QueryEscape("https://example.org/receipts?id="+providertest.Message().ID+"&token=")}, providertest.Message().ID},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan string, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				seen <- r.URL.RawQuery + string(body)
				if name == "kannel" {
					w.WriteHeader(http.StatusAccepted)
				}
				_, _ = io.WriteString(w, row.response)
			}))
			defer server.Close()
			sender, err := row.open(server.URL, receipts)
			if err != nil {
				t.Fatal(err)
			}
			var id string
			ctx := sms.WithReport(t.Context(), func(r sms.Result) {
				if r.MessageID != "" {
					id = r.MessageID
				}
			})
			if err := sender.Send(ctx, providertest.Message()); err != nil {
				t.Fatal(err)
			}
			sent := <-seen
			for _, part := range row.parts {
				if !strings.Contains(sent, part) {
					t.Errorf("the request has no %s: %s", part, sent)
				}
			}
			if id != row.id {
				t.Errorf("it reports the ID %q, want %q", id, row.id)
			}
			if _, err := row.open(server.URL, "receipts"); err == nil {
				t.Error("no error for a URL that is none")
			}
		})
	}
}
