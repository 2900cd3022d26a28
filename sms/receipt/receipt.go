// Package receipt reads delivery receipts: the requests that an SMS provider makes when it knows what
// became of a message. Each provider's package has a [Reader]; Plugin.MountReceipts serves one.
package receipt

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/threepid/sms"
)

// ErrForged means that a request is not from the provider, or that somebody repeats an old one: its
// signature is missing, wrong or too old.
var ErrForged = errors.New("receipt: the signature is missing, wrong or too old")

// ErrUnreadable means that a request is not of the form that the provider documents.
var ErrUnreadable = errors.New("receipt: the request is not a delivery receipt")

// Tolerance is how old, or how far in the future, the time in a signature may be.
const Tolerance = 5 * time.Minute

// Reader reads the receipts in a provider's request. It is safe for concurrent use.
type Reader interface {
	// Read returns the receipts in a request with that body, which was read already and has at
	// most 256 KiB. A request about something else, such as that a message was queued, has
	// none, and that is no error. The error wraps ErrForged or ErrUnreadable.
	Read(r *http.Request, body []byte) ([]sms.Receipt, error)
}

// Form returns the parameters of a request: those of its body if that is a form, and otherwise those
// of its query. A JSON object of strings and numbers counts as a form.
func Form(r *http.Request, body []byte) (url.Values, error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var form url.Values
	var err error
	switch {
	case len(body) == 0:
		form, err = url.ParseQuery(r.URL.RawQuery)
	case kind == "application/json":
		form, err = fields(body)
	default:
		form, err = url.ParseQuery(string(body))
	}
	if err != nil {
		return nil, ErrUnreadable
	}
	return form, nil
}

// fields returns the strings and numbers of a JSON object.
func fields(body []byte) (url.Values, error) {
	var object map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.UseNumber()
	if err := decoder.Decode(&object); err != nil {
		return nil, err
	}
	form := make(url.Values, len(object))
	for name, value := range object {
		switch value := value.(type) {
		case string:
			form.Set(name, value)
		case json.Number:
			form.Set(name, value.String())
		}
	}
	return form, nil
}

// Fresh reports whether the time of a signature, in Unix seconds, is within Tolerance of now.
func Fresh(seconds string, now time.Time) bool {
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return false
	}
	age := now.Sub(time.Unix(n, 0))
	return age <= Tolerance && age >= -Tolerance
}

// VerifyStandard verifies a request that is signed according to Standard Webhooks
// (https://www.standardwebhooks.com), version 1, with the headers webhook-id, webhook-timestamp and
// webhook-signature. The error is ErrForged.
func VerifyStandard(key []byte, header http.Header, body []byte, now time.Time) error {
	id, timestamp := header.Get("Webhook-Id"), header.Get("Webhook-Timestamp")
	if id == "" || !Fresh(timestamp, now) {
		return ErrForged
	}
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(slices.Concat([]byte(id+"."+timestamp+"."), body))
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	valid := false
	for _, given := range strings.Fields(header.Get("Webhook-Signature")) {
		valid = hmac.Equal([]byte(given), want) || valid
	}
	if !valid {
		return ErrForged
	}
	return nil
}

// One returns a receipt as a list, or ErrUnreadable if it has no message. known is false for a status
// that is not about delivery, of which there is no receipt.
func One(provider, messageID string, status sms.Delivery, known bool, reason string) ([]sms.Receipt, error) {
	switch {
	case messageID == "":
		return nil, ErrUnreadable
	case !known:
		return nil, nil
	}
	return []sms.Receipt{{Provider: provider, MessageID: messageID, Status: status, Reason: reason}}, nil
}
