package plivo

import (
	"crypto/hmac"
	"crypto/sha256"
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

// Receipts reads Plivo's message status callbacks, which Options.ReceiptURL asks for:
// https://www.plivo.com/docs/messaging/api/message/message-status-callbacks. They must have a
// signature that is made with the AuthToken of the account, or of the main account. Plivo documents
// version 2 for messages (https://www.plivo.com/docs/messaging/concepts/signature-validation), and also
// sends version 3, which it documents for calls.
//
// Version 2 signs the URL and a nonce, but not the parameters: a client that has seen one signature
// can forge receipts, so the URL should be https. Neither version has a time, so an old request can be
// repeated, which changes nothing.
type Receipts struct {
	token   string
	address *url.URL
}

// NewReceipts returns a reader. address is the public URL at which it is served, which is part of the
// signature: Options.ReceiptURL. Its errors contain no credential.
func NewReceipts(authToken, address string) (*Receipts, error) {
	err := errors.Join(httpsend.Require("plivo", "AuthToken", authToken), httpsend.ReceiptURL("plivo", address))
	parsed, parseErr := url.Parse(address)
	if address == "" || parseErr != nil {
		err = errors.Join(err, errors.New("plivo: the URL of the receipts is missing"))
	}
	return &Receipts{authToken, parsed}, err
}

// Read implements receipt.Reader.
func (p *Receipts) Read(r *http.Request, body []byte) ([]sms.Receipt, error) {
	form, err := receipt.Form(r, body)
	if err != nil {
		return nil, err
	}
	if !p.signed(r, form, len(body) > 0) {
		return nil, receipt.ErrForged
	}
	status, known := delivery(form.Get("Status"))
	reason := form.Get("ErrorCode")
	if reason == "000" {
		reason = ""
	}
	return receipt.One("plivo", form.Get("MessageUUID"), status, known, reason)
}

// signed reports whether a request has a valid signature of either version. The headers with Ma have
// the signature of the main account.
func (p *Receipts) signed(r *http.Request, form url.Values, posted bool) bool {
	valid := false
	for version, text := range map[string]string{
		"V2": p.base() + r.Header.Get("X-Plivo-Signature-V2-Nonce"),
		"V3": p.signedText(form, posted) + "." + r.Header.Get("X-Plivo-Signature-V3-Nonce"),
	} {
		if r.Header.Get("X-Plivo-Signature-"+version+"-Nonce") == "" {
			continue
		}
		mac := hmac.New(sha256.New, []byte(p.token))
		_, _ = mac.Write([]byte(text))
		want := []byte(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		for _, name := range []string{"X-Plivo-Signature-" + version, "X-Plivo-Signature-Ma-" + version} {
			for given := range strings.SplitSeq(r.Header.Get(name), ",") {
				valid = hmac.Equal([]byte(strings.TrimSpace(given)), want) || valid
			}
		}
	}
	return valid
}

// base returns the URL without its query.
func (p *Receipts) base() string {
	base := url.URL{Scheme: p.address.Scheme, Host: p.address.Host, Path: p.address.Path}
	return base.String()
}

// signedText returns what version 3 signs, without the nonce: the URL with its sorted query, and the
// sorted parameters of the body.
func (p *Receipts) signedText(form url.Values, posted bool) string {
	query := p.address.Query()
	if !posted {
		maps.Copy(query, form)
	}
	text := p.base()
	if joined := join(query, "=", "&"); joined != "" || posted {
		text += "?" + joined
		if joined != "" && posted {
			text += "."
		}
	}
	if posted {
		text += join(form, "", "")
	}
	return text
}

// join writes parameters in the order of their names and values.
func join(form url.Values, equals, and string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(form)) {
		for _, value := range slices.Sorted(slices.Values(form[name])) {
			pairs = append(pairs, name+equals+value)
		}
	}
	return strings.Join(pairs, and)
}

// delivery returns what a status says about delivery, if anything.
func delivery(status string) (d sms.Delivery, known bool) {
	switch status {
	case "delivered", "read":
		return sms.Delivered, true
	case "undelivered", "failed", "rejected":
		return sms.Undelivered, true
	case "queued", "sent":
		return "", false
	}
	return sms.DeliveryUnknown, true
}
