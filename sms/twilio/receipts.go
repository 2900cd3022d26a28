package twilio

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // Twilio's choice
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
	"example.com/threepid/sms/receipt"
)

var _ receipt.Reader = (*Receipts)(nil)

// Receipts reads Twilio's status callbacks, which Options.ReceiptURL asks for:
// https://www.twilio.com/docs/messaging/guides/track-outbound-message-status. They are signed with the
// account's AuthToken, also if messages are sent with an API key. The signature has no time, so an
// old request can be repeated, which changes nothing.
type Receipts struct {
	token     string
	addresses []string
}

// NewReceipts returns a reader. address is the public URL at which it is served, which is part of the
// signature: Options.ReceiptURL. Its errors contain no credential.
func NewReceipts(authToken, address string) (*Receipts, error) {
	err := errors.Join(httpsend.Require("twilio", "AuthToken", authToken), httpsend.ReceiptURL("twilio", address))
	if address == "" {
		err = errors.Join(err, errors.New("twilio: the URL of the receipts is missing"))
	}
	return &Receipts{authToken, withPorts(address)}, err
}

// withPorts returns a URL as it is, and with its port added or removed: Twilio signs either.
func withPorts(address string) []string {
	u, err := url.Parse(address)
	if err != nil {
		return []string{address}
	}
	ports := map[string]string{"https": ":443", "http": ":80"}
	other := strings.TrimSuffix(u.Host, ":"+u.Port())
	if u.Port() == "" {
		other = u.Host + ports[u.Scheme]
	}
	return []string{address, strings.Replace(address, "//"+u.Host, "//"+other, 1)}
}

// Read implements receipt.Reader.
func (t *Receipts) Read(r *http.Request, body []byte) ([]sms.Receipt, error) {
	form, err := receipt.Form(r, body)
	if err != nil {
		return nil, err
	}
	given, valid := []byte(r.Header.Get("X-Twilio-Signature")), false
	for _, address := range t.addresses {
		valid = hmac.Equal(given, []byte(signature(t.token, address, form))) || valid
	}
	if !valid {
		return nil, receipt.ErrForged
	}
	status, known := delivery(form.Get("MessageStatus"))
	return receipt.One("twilio", form.Get("MessageSid"), status, known, form.Get("ErrorCode"))
}

// signature returns what Twilio signs a request with: https://www.twilio.com/docs/usage/security.
func signature(token, address string, form url.Values) string {
	mac := hmac.New(sha1.New, []byte(token))
	var text strings.Builder
	text.WriteString(address)
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range form[name] {
			text.WriteString(name + value)
		}
	}
	_, _ = mac.Write([]byte(text.String()))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// delivery returns what a status says about delivery, if anything.
func delivery(status string) (d sms.Delivery, known bool) {
	switch status {
	case "delivered", "read":
		return sms.Delivered, true
	case "undelivered", "failed", "canceled":
		return sms.Undelivered, true
	case "accepted", "scheduled", "queued", "sending", "sent":
		return "", false
	}
	return sms.DeliveryUnknown, true
}
