package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
	"example.com/threepid/sms/receipt"
)

var _ receipt.Reader = (*KannelReceipts)(nil)

// minSecret is in bytes.
const minSecret = 16

// receiptToken returns the token of a message, which only a holder of the secret can make.
func receiptToken(secret, id string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte("receipt\x00" + id))
	return hex.EncodeToString(mac.Sum(nil))
}

// checkReceipts validates the options about receipts.
func (s *Sender) checkReceipts() error {
	o := s.options
	switch {
	case o.ReceiptSecret != "" && len(o.ReceiptSecret) < minSecret:
		return errors.New("gateway: Options.ReceiptSecret must have at least 16 bytes")
	case o.ReceiptURL != "" && o.ReceiptSecret == "":
		return errors.New("gateway: Options.ReceiptURL needs Options.ReceiptSecret")
	case strings.Contains(o.ReceiptURL, "?"):
		return errors.New("gateway: Options.ReceiptURL must have no query; each message gets one of its own")
	}
	return httpsend.ReceiptURL("gateway", o.ReceiptURL)
}

// receiptOf returns the token of a message, and the URL of its receipts.
func (s *Sender) receiptOf(id string) (token, address string) {
	if s.options.ReceiptSecret == "" {
		return "", ""
	}
	token = receiptToken(s.options.ReceiptSecret, id)
	if s.options.ReceiptURL != "" {
		address = s.options.ReceiptURL + "?id=" + queryEscape(id) + "&token=" + token
	}
	return token, address
}

// WithKannelReceipts returns o, as [Kannel] made it, with a request for delivery receipts to a URL
// without a query, such as https://example.org/receipts/kannel. Kannel signs nothing, so the
// receipts of each message have a token of its own, which is made with the secret: at least 16 bytes
// that nobody else knows. New validates both.
func WithKannelReceipts(o Options, receiptURL, secret string) Options {
	// Types 1, 2 and 16: delivered, not delivered, refused by the SMS centre. %d is Kannel's.
	o.URL += "&dlr-mask=19&dlr-url={{.ReceiptURL}}" + queryEscape("&type=%d")
	o.ReceiptURL, o.ReceiptSecret = receiptURL, secret
	return o
}

// KannelReceipts reads the delivery receipts of Kannel that WithKannelReceipts asks for. A request
// can be repeated, which changes nothing.
type KannelReceipts struct{ secret string }

// NewKannelReceipts returns a reader. The secret is that of WithKannelReceipts.
func NewKannelReceipts(secret string) (*KannelReceipts, error) {
	if len(secret) < minSecret {
		return nil, errors.New("gateway: the secret of the receipts must have at least 16 bytes")
	}
	return &KannelReceipts{secret}, nil
}

// Read implements receipt.Reader.
func (k *KannelReceipts) Read(r *http.Request, _ []byte) ([]sms.Receipt, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, receipt.ErrUnreadable
	}
	id := query.Get("id")
	if !hmac.Equal([]byte(query.Get("token")), []byte(receiptToken(k.secret, id))) {
		return nil, receipt.ErrForged
	}
	status, known := kannelDelivery(query.Get("type"))
	return receipt.One("gateway", id, status, known, "")
}

// kannelDelivery returns what a type of receipt says about delivery, if anything.
func kannelDelivery(kind string) (d sms.Delivery, known bool) {
	switch kind {
	case "1":
		return sms.Delivered, true
	case "2", "16":
		return sms.Undelivered, true
	case "4":
		return sms.Delayed, true
	case "8":
		return "", false
	}
	return sms.DeliveryUnknown, true
}
