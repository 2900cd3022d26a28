package infobip

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"

	"example.com/threepid/sms"
	"example.com/threepid/sms/receipt"
)

var _ receipt.Reader = (*Receipts)(nil)

// Receipts reads Infobip's delivery reports, which Options.ReceiptURL asks for:
// https://www.infobip.com/docs/api/channels/sms/logs-and-status-reports/receive-outbound-sms-message-reports-v3.
// Infobip signs nothing. So the URL must have the query parameter token, with a secret of at least 16
// characters that nobody else knows. A request can be repeated, which changes nothing.
type Receipts struct{ token string }

// minToken is how long a token is at least.
const minToken = 16

// NewReceipts returns a reader of requests whose URL has the token.
func NewReceipts(token string) (*Receipts, error) {
	if len(token) < minToken {
		return nil, errors.New("infobip: the token of the receipts must have at least 16 characters")
	}
	return &Receipts{token}, nil
}

// Read implements receipt.Reader.
func (i *Receipts) Read(r *http.Request, body []byte) ([]sms.Receipt, error) {
	given, want := sha256.Sum256([]byte(r.URL.Query().Get("token"))), sha256.Sum256([]byte(i.token))
	if subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
		return nil, receipt.ErrForged
	}
	var reports struct {
		Results []struct {
			MessageID string `json:"messageId"`
			Status    struct {
				GroupName string `json:"groupName"`
				Name      string `json:"name"`
			} `json:"status"`
			Error struct {
				Name string `json:"name"`
			} `json:"error"`
		} `json:"results"`
	}
	if err := json.Unmarshal(body, &reports); err != nil || len(reports.Results) == 0 {
		return nil, receipt.ErrUnreadable
	}
	receipts := make([]sms.Receipt, 0, len(reports.Results))
	for _, result := range reports.Results {
		reason := result.Error.Name
		if reason == "NO_ERROR" {
			reason = ""
		}
		one, err := receipt.One("infobip", result.MessageID, delivery(result.Status.GroupName, result.Status.Name), true, reason)
		if err != nil {
			return nil, err
		}
		receipts = append(receipts, one...)
	}
	return receipts, nil
}

// delivery returns what a status says about delivery.
func delivery(group, name string) sms.Delivery {
	switch {
	case name == "DELIVERED_TO_OPERATOR", name == "EXPIRED_DLR_UNKNOWN":
		return sms.DeliveryUnknown
	case group == "DELIVERED":
		return sms.Delivered
	case group == "UNDELIVERABLE", group == "EXPIRED", group == "REJECTED":
		return sms.Undelivered
	case group == "PENDING":
		return sms.Delayed
	}
	return sms.DeliveryUnknown
}
