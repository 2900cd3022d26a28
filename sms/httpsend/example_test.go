package httpsend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

// acme is a Sender for a provider whose API accepts JSON and returns a code.
type acme struct {
	client *http.Client
	base   string
	key    string
}

func (a acme) Send(ctx context.Context, m sms.Message) error {
	body := map[string]any{"id": m.ID, "to": m.To, "text": m.Text}
	res, err := httpsend.PostJSON(ctx, a.client, "acme", a.base+"/v1/messages", body, func(r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+a.key)
	})
	if err != nil {
		return err
	}
	var result struct{ ID, Code string }
	_ = json.Unmarshal(res.Body, &result) // without a code, the status decides
	sms.Report(ctx, sms.Result{Provider: "acme", MessageID: result.ID})
	class := httpsend.ClassifyStatus(res.Status)
	switch result.Code {
	case "number_unreachable":
		class = httpsend.Rejected
	case "no_credit":
		class = httpsend.Misconfigured
	}
	if class == httpsend.Accepted && result.ID == "" {
		class = httpsend.Uncertain // a success without a message, such as a proxy's page
	}
	return class.Error("acme: HTTP %d, code %q", res.Status, result.Code)
}

// A provider of your own is a type with one method.
func Example() {
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusPaymentRequired)
		_, _ = fmt.Fprint(w, `{"code":"no_credit"}`)
	}))
	defer provider.Close()

	sender := acme{client: httpsend.Client(nil), base: provider.URL, key: "secret"}
	fmt.Println(sender.Send(context.Background(), sms.Message{ID: "msg_1", To: "+447700900001", Text: "123456 is your code."}))
	// Output: acme: HTTP 402, code "no_credit": sms: the provider refuses the account or its settings
}
