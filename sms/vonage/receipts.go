package vonage

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
	"example.com/threepid/sms/receipt"
)

var _ receipt.Reader = (*Receipts)(nil)

// Receipts reads Vonage's delivery receipts, which Options.ReceiptURL asks for:
// https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts. They must be signed with the
// account's signature secret and SHA-256 HMAC, in one of two ways: with the parameters sig and
// timestamp (https://developer.vonage.com/en/getting-started/concepts/signing-messages), for which
// Vonage's support must switch signed webhooks on; or with a JSON Web Token
// (https://developer.vonage.com/en/getting-started/concepts/webhooks).
type Receipts struct {
	secret string
	now    func() time.Time
}

// NewReceipts returns a reader. now returns the time; nil means time.Now. Its errors contain no
// credential.
func NewReceipts(signatureSecret string, now func() time.Time) (*Receipts, error) {
	if now == nil {
		now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	return &Receipts{signatureSecret, now}, httpsend.Require("vonage", "the signature secret", signatureSecret)
}

// Read implements receipt.Reader.
func (v *Receipts) Read(r *http.Request, body []byte) ([]sms.Receipt, error) {
	form, err := receipt.Form(r, body)
	if err != nil {
		return nil, err
	}
	signed := v.signedForm(form)
	if token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); bearer {
		// The token covers the body alone, so it does not vouch for a query.
		signed = len(body) > 0 && v.signedToken(token, body)
	}
	if !signed {
		return nil, receipt.ErrForged
	}
	id := form.Get("messageId")
	if id == "" {
		id = form.Get("message-id")
	}
	reason := form.Get("err-code")
	if reason == "0" {
		reason = ""
	}
	status, known := delivery(form.Get("status"))
	return receipt.One("vonage", id, status, known, reason)
}

// signedForm reports whether the parameter sig is right.
func (v *Receipts) signedForm(form url.Values) bool {
	var text strings.Builder
	clean := strings.NewReplacer("&", "_", "=", "_")
	for _, name := range slices.Sorted(maps.Keys(form)) {
		if name != "sig" {
			text.WriteString("&" + name + "=" + clean.Replace(form.Get(name)))
		}
	}
	want := hex.EncodeToString(v.mac(text.String()))
	right := hmac.Equal([]byte(strings.ToLower(form.Get("sig"))), []byte(want))
	return right && receipt.Fresh(form.Get("timestamp"), v.now())
}

// signedToken reports whether a JSON Web Token is right, and made for this body.
func (v *Receipts) signedToken(token string, body []byte) bool {
	const parts = 3
	pieces := strings.Split(token, ".")
	if len(pieces) != parts {
		return false
	}
	given, err := base64.RawURLEncoding.DecodeString(pieces[2])
	if err != nil || !hmac.Equal(given, v.mac(pieces[0]+"."+pieces[1])) {
		return false
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	var claims struct {
		IssuedAt    int64  `json:"iat"`
		PayloadHash string `json:"payload_hash"`
	}
	if !decode(pieces[0], &header) || !decode(pieces[1], &claims) || header.Algorithm != "HS256" {
		return false
	}
	sum := sha256.Sum256(body)
	fresh := receipt.Fresh(strconv.FormatInt(claims.IssuedAt, 10), v.now())
	return fresh && hmac.Equal([]byte(strings.ToLower(claims.PayloadHash)), []byte(hex.EncodeToString(sum[:])))
}

func decode(part string, into any) bool {
	text, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(text, into) == nil
}

func (v *Receipts) mac(text string) []byte {
	mac := hmac.New(sha256.New, []byte(v.secret))
	_, _ = mac.Write([]byte(text))
	return mac.Sum(nil)
}

// delivery returns what a status says about delivery, if anything.
func delivery(status string) (d sms.Delivery, known bool) {
	switch status {
	case "delivered":
		return sms.Delivered, true
	case "failed", "rejected", "expired":
		return sms.Undelivered, true
	case "buffered":
		return sms.Delayed, true
	case "accepted":
		return "", false
	}
	return sms.DeliveryUnknown, true
}
