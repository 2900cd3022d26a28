package webhook

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/receipt"
)

var _ receipt.Reader = (*Receipts)(nil)

// Receipts reads delivery receipts of a gateway of your own. Each is one POST of
//
//	{"id":"…","status":"delivered","reason":"…"}
//
// with the id of the message, and the status delivered, failed (for good), delayed (failed for now) or
// unknown. reason, a code of at most 128 letters, digits, dots, colons, hyphens and underscores, may
// be left out. The request must be signed according to Standard Webhooks
// (https://www.standardwebhooks.com), in the headers webhook-id, webhook-timestamp and
// webhook-signature.
type Receipts struct {
	key []byte
	now func() time.Time
}

// NewReceipts returns a reader. The secret is of the form of Options.Secret, and may be the same. now
// returns the time; nil means time.Now.
func NewReceipts(secret string, now func() time.Time) (*Receipts, error) {
	key, err := parseSecret(secret)
	if err == nil && key == nil {
		err = errors.New("webhook: the secret of the receipts is missing")
	}
	if now == nil {
		now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	return &Receipts{key, now}, err
}

// Read implements receipt.Reader.
func (w *Receipts) Read(r *http.Request, body []byte) ([]sms.Receipt, error) {
	if err := receipt.VerifyStandard(w.key, r.Header, body, w.now()); err != nil {
		return nil, err
	}
	var given struct {
		ID     string       `json:"id"`
		Status sms.Delivery `json:"status"`
		Reason string       `json:"reason"`
	}
	if json.Unmarshal(body, &given) != nil {
		return nil, receipt.ErrUnreadable
	}
	return receipt.One("webhook", given.ID, given.Status, true, given.Reason)
}
