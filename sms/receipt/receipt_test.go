package receipt_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid/internal/providertest"
	"example.com/threepid/sms"
	"example.com/threepid/sms/gateway"
	"example.com/threepid/sms/infobip"
	"example.com/threepid/sms/plivo"
	"example.com/threepid/sms/receipt"
	"example.com/threepid/sms/twilio"
	"example.com/threepid/sms/vonage"
	"example.com/threepid/sms/webhook"
)

const (
	secret  = "secret-of-the-receipts"
	hooks   = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" // from the Standard Webhooks specification
	address = "https://example.org/receipts/provider"
	form    = "application/x-www-form-urlencoded"
)

func now() time.Time { return time.Unix(1_750_000_000, 0) }

// request is a provider's request.
type request struct {
	method, url, kind, body string
	header                  http.Header
}

func (r request) read(reader receipt.Reader) ([]sms.Receipt, error) {
	req := httptest.NewRequest(r.method, r.url, strings.NewReader(r.body))
	req.Header = r.header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	return reader.Read(req, []byte(r.body))
}

// provider creates the requests of a provider, as its documentation describes them, signed at a
// time with a key.
type provider struct {
	name, section string
	reader        receipt.Reader
	sign          func(status, key string, at time.Time) request
	key           string
	timed         bool // the signature contains a time
}

func mac(h func() hash.Hash, key, text string) []byte {
	m := hmac.New(h, []byte(key))
	_, _ = m.Write([]byte(text))
	return m.Sum(nil)
}

func providers(tb testing.TB) []provider {
	tb.Helper()
	var errs []error
	keep := func(r receipt.Reader, err error) receipt.Reader {
		errs = append(errs, err)
		return r
	}
	fromTwilio, err := twilio.NewReceipts(secret, address)
	list := []provider{{name: "twilio", section: "Receipts of Twilio", reader: keep(fromTwilio, err), sign: signTwilio, key: secret}}
	fromVonage, err := vonage.NewReceipts(secret, now)
	list = append(list,
		provider{"vonage", "Receipts of Vonage", keep(fromVonage, err), signVonage, secret, true},
		provider{"vonage", "Receipts of Vonage", fromVonage, signVonageToken, secret, true})
	fromInfobip, err := infobip.NewReceipts(secret)
	list = append(list, provider{"infobip", "Receipts of Infobip", keep(fromInfobip, err), signInfobip, secret, false})
	fromPlivo, err := plivo.NewReceipts(secret, address)
	list = append(list,
		provider{"plivo", "Receipts of Plivo", keep(fromPlivo, err), signPlivo, secret, false},
		provider{"plivo", "Receipts of Plivo", fromPlivo, signPlivoGet, secret, false},
		provider{"plivo", "Receipts of Plivo", fromPlivo, signPlivoURL, secret, false})
	fromKannel, err := gateway.NewKannelReceipts(secret)
	list = append(list, provider{"gateway", "Receipts of Kannel", keep(fromKannel, err), signKannel, secret, false})
	fromWebhook, err := webhook.NewReceipts(hooks, now)
	list = append(list, provider{"webhook", "Receipts of a webhook", keep(fromWebhook, err), signWebhook, hooks, true})
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	return list
}

func signTwilio(status, key string, _ time.Time) request {
	values := url.Values{"MessageSid": {"id-1"}, "MessageStatus": {status}, "ErrorCode": {"30005"}, "To": {"+447700900001"}}
	text := address + "ErrorCode30005" + "MessageSidid-1" + "MessageStatus" + status + "To+447700900001"
	signature := base64.StdEncoding.EncodeToString(mac(sha1.New, key, text))
	return request{http.MethodPost, "/", form, values.Encode(), http.Header{"X-Twilio-Signature": {signature}}}
}

func signVonage(status, key string, at time.Time) request {
	seconds := fmt.Sprint(at.Unix())
	text := "&err-code=30005&messageId=id-1&msisdn=447700900001&scts=a_b_c&status=" + status + "&timestamp=" + seconds
	values := url.Values{
		"err-code": {"30005"}, "messageId": {"id-1"}, "msisdn": {"447700900001"}, "scts": {"a&b=c"}, "status": {status}, "timestamp": {seconds},
		"sig": {strings.ToUpper(hex.EncodeToString(mac(sha256.New, key, text)))},
	}
	return request{http.MethodGet, "/?" + values.Encode(), "", "", nil}
}

func signVonageToken(status, key string, at time.Time) request {
	body := `{"messageId":"id-1","status":"` + status + `","err-code":"30005"}`
	sum := sha256.Sum256([]byte(body))
	part := base64.RawURLEncoding.EncodeToString
	text := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part(fmt.Appendf(nil, `{"iat":%d,"iss":"Vonage","payload_hash":"%x"}`, at.Unix(), sum))
	return request{http.MethodPost, "/", "application/json", body, http.Header{"Authorization": {"Bearer " + text + "." + part(mac(sha256.New, key, text))}}}
}

func signInfobip(status, key string, _ time.Time) request {
	group, name, _ := strings.Cut(status, " ")
	body := `{"results":[{"messageId":"id-1","status":{"groupName":"` + group + `","name":"` + name + `"},"error":{"name":"30005"}}]}`
	return request{http.MethodPost, "/?token=" + key, "application/json", body, nil}
}

func plivoHeader(key, text string) http.Header {
	right := base64.StdEncoding.EncodeToString(mac(sha256.New, key, text+".nonce"))
	return http.Header{"X-Plivo-Signature-V3": {"b2xk," + right}, "X-Plivo-Signature-V3-Nonce": {"nonce"}}
}

func signPlivo(status, key string, _ time.Time) request {
	values := url.Values{"MessageUUID": {"id-1"}, "Status": {status}, "ErrorCode": {"30005"}}
	return request{http.MethodPost, "/", form, values.Encode(), plivoHeader(key, address+"?ErrorCode30005MessageUUIDid-1Status"+status)}
}

func signPlivoGet(status, key string, _ time.Time) request {
	values := url.Values{"MessageUUID": {"id-1"}, "Status": {status}, "ErrorCode": {"30005"}}
	return request{http.MethodGet, "/?" + values.Encode(), "", "", plivoHeader(key, address+"?ErrorCode=30005&MessageUUID=id-1&Status="+status)}
}

// signPlivoURL signs with version 2, as the main account.
func signPlivoURL(status, key string, _ time.Time) request {
	values := url.Values{"MessageUUID": {"id-1"}, "Status": {status}, "ErrorCode": {"30005"}}
	right := base64.StdEncoding.EncodeToString(mac(sha256.New, key, address+"nonce"))
	return request{http.MethodPost, "/", form, values.Encode(), http.Header{"X-Plivo-Signature-Ma-V2": {right}, "X-Plivo-Signature-V2-Nonce": {"nonce"}}}
}

func signKannel(status, key string, _ time.Time) request {
	token := hex.EncodeToString(mac(sha256.New, key, "receipt\x00id-1"))
	return request{http.MethodGet, "/?id=id-1&token=" + token + "&type=" + status, "", "", nil}
}

func signWebhook(status, key string, at time.Time) request {
	body := `{"id":"id-1","status":"` + status + `","reason":"30005"}`
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(key, "whsec_"))
	seconds := fmt.Sprint(at.Unix())
	signature := "v1," + base64.StdEncoding.EncodeToString(mac(sha256.New, string(raw), "msg_1."+seconds+"."+body))
	return request{http.MethodPost, "/", "application/json", body, http.Header{
		"Webhook-Id": {"msg_1"}, "Webhook-Timestamp": {seconds}, "Webhook-Signature": {"v1,b2xk " + signature},
	}}
}

// TestStatuses compares each reader with the tables of docs/PROVIDERS.md.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, p := range providers(t) {
		for _, row := range providertest.Rows(t, p.section) {
			got, err := p.sign(row.Code, p.key, now()).read(p.reader)
			if err != nil {
				t.Errorf("%s, %s: %v", p.name, row.Code, err)
				continue
			}
			reason := "30005"
			if p.name == "gateway" {
				reason = ""
			}
			var want []sms.Receipt
			if row.Class != "none" {
				want = []sms.Receipt{{Provider: p.name, MessageID: "id-1", Status: sms.Delivery(row.Class), Reason: reason}}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %+v, want %+v", p.name, row.Code, got, want)
			}
		}
	}
}

// TestForgeries changes each part of a signed request.
func TestForgeries(t *testing.T) {
	t.Parallel()
	otherKey := map[string]string{secret: "secret-of-somebody-else", hooks: "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 24))}
	for _, p := range providers(t) {
		status := providertest.Rows(t, p.section)[0].Code
		right := func() request { return p.sign(status, p.key, now()) }
		forged := map[string]request{"another key": p.sign(status, otherKey[p.key], now())}
		unsigned := right()
		unsigned.header = nil
		if before, _, query := strings.Cut(unsigned.url, "?"); query {
			unsigned.url = before + "?id=id-1&messageId=id-1"
		}
		forged["no signature"] = unsigned
		if p.timed {
			forged["too old"] = p.sign(status, p.key, now().Add(-receipt.Tolerance-time.Second))
			forged["of the future"] = p.sign(status, p.key, now().Add(receipt.Tolerance+time.Second))
		}
		if p.name != "infobip" && forged["another key"].header.Get("X-Plivo-Signature-V2-Nonce") == "" { // these providers sign no parameters
			other := right()
			other.body = strings.ReplaceAll(other.body, "id-1", "id-2")
			other.url = strings.ReplaceAll(other.url, "id-1", "id-2")
			forged["another message"] = other
		}
		if p.name == "plivo" {
			other := right()
			for _, version := range []string{"V2", "V3"} {
				if other.header.Get("X-Plivo-Signature-"+version+"-Nonce") != "" {
					other.header.Set("X-Plivo-Signature-"+version+"-Nonce", "another")
				}
			}
			forged["another nonce"] = other
		}
		for name, r := range forged {
			if got, err := r.read(p.reader); !errors.Is(err, receipt.ErrForged) || len(got) > 0 {
				t.Errorf("%s, %s: %+v, %v", p.name, name, got, err)
			}
		}
		if p.timed {
			if _, err := p.sign(status, p.key, now().Add(-receipt.Tolerance)).read(p.reader); err != nil {
				t.Errorf("%s, just in time: %v", p.name, err)
			}
		}
	}
}

// TestTokenOfAnEmptyBody sends a valid token of Vonage, which signs the body, with a query instead
// of a body.
func TestTokenOfAnEmptyBody(t *testing.T) {
	t.Parallel()
	reader, err := vonage.NewReceipts(secret, now)
	if err != nil {
		t.Fatal(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	text := part([]byte(`{"alg":"HS256"}`)) + "." + part(fmt.Appendf(nil, `{"iat":%d,"payload_hash":"%x"}`, now().Unix(), sha256.Sum256(nil)))
	r := request{http.MethodGet, "/?messageId=id-1&status=failed", "", "", http.Header{"Authorization": {"Bearer " + text + "." + part(mac(sha256.New, secret, text))}}}
	if got, err := r.read(reader); !errors.Is(err, receipt.ErrForged) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestKnownSignatures compares with signatures from the tests of the providers' own libraries.
func TestKnownSignatures(t *testing.T) {
	t.Parallel()
	reader, err := twilio.NewReceipts("12345", "https://mycompany.com/myapp.php?foo=1&bar=2")
	if err != nil {
		t.Fatal(err)
	}
	values := url.Values{
		"CallSid": {"CA1234567890ABCDE"}, "Caller": {"+14158675309"}, "Digits": {"1234"}, "From": {"+14158675309"}, "To": {"+18005551212"},
	}
	r := request{http.MethodPost, "/", form, values.Encode(), http.Header{"X-Twilio-Signature": {"RSOYDt4T1cUTdK1PDd93/VVr8B8="}}}
	if _, err := r.read(reader); !errors.Is(err, receipt.ErrUnreadable) { // signed, but without a message
		t.Errorf("twilio: %v", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(hooks, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{
		"Webhook-Id": {"msg_p5jXN8AQM9LWM0D4loKWxJek"}, "Webhook-Timestamp": {"1614265330"},
		"Webhook-Signature": {"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
	}
	if err := receipt.VerifyStandard(key, header, []byte(`{"test": 2432232314}`), time.Unix(1614265330, 0)); err != nil {
		t.Errorf("webhook: %v", err)
	}
}

// TestPortsOfTwilio lets Twilio sign the URL with a port that the configured URL does not contain,
// and the reverse.
func TestPortsOfTwilio(t *testing.T) {
	t.Parallel()
	for signed, set := range map[string]string{
		"https://example.org:443/r?a=b":  "https://example.org/r?a=b",
		"https://example.org/r?a=b":      "https://example.org:8443/r?a=b",
		"http://example.org:80/r":        "http://example.org/r",
		"https://example.org:8443/other": "https://example.org:8443/other",
	} {
		reader, err := twilio.NewReceipts(secret, set)
		if err != nil {
			t.Fatal(err)
		}
		signature := base64.StdEncoding.EncodeToString(mac(sha1.New, secret, signed+"MessageSidid-1MessageStatusdelivered"))
		r := request{http.MethodPost, "/", form, "MessageSid=id-1&MessageStatus=delivered", http.Header{"X-Twilio-Signature": {signature}}}
		if got, err := r.read(reader); err != nil || len(got) != 1 {
			t.Errorf("%s signed, %s set: %+v, %v", signed, set, got, err)
		}
	}
}

// TestUnreadable sends, for each provider, a signed request that is no receipt.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	for _, r := range []request{
		{http.MethodPost, "/?token=" + secret, "application/json", "{", nil},
		{http.MethodPost, "/?token=" + secret, "application/json", `{"results":[]}`, nil},
		{http.MethodPost, "/?token=" + secret, "application/json", `{"results":[{}]}`, nil},
	} {
		reader, err := infobip.NewReceipts(secret)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.read(reader); !errors.Is(err, receipt.ErrUnreadable) {
			t.Errorf("%s: %+v, %v", r.body, got, err)
		}
	}
	for _, p := range providers(t) {
		r := request{http.MethodPost, "/?%zz", form, "%zz", nil}
		if _, err := r.read(p.reader); !errors.Is(err, receipt.ErrUnreadable) && !errors.Is(err, receipt.ErrForged) {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

func TestConstructors(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"twilio without a token":        second(twilio.NewReceipts("", address)),
		"twilio without a URL":          second(twilio.NewReceipts(secret, "")),
		"twilio with a path":            second(twilio.NewReceipts(secret, "/receipts")),
		"plivo without a token":         second(plivo.NewReceipts("", address)),
		"plivo without a URL":           second(plivo.NewReceipts(secret, "")),
		"vonage without a secret":       second(vonage.NewReceipts("", nil)),
		"infobip with a short token":    second(infobip.NewReceipts("short")),
		"kannel with a short secret":    second(gateway.NewKannelReceipts("short")),
		"a webhook without a secret":    second(webhook.NewReceipts("", nil)),
		"a webhook with another secret": second(webhook.NewReceipts("secret", nil)),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error has the secret: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// FuzzRead passes arbitrary requests to every reader.
func FuzzRead(f *testing.F) {
	list := providers(f)
	for _, p := range list {
		r := p.sign("delivered", p.key, now())
		header, err := json.Marshal(r.header)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.method, r.url, r.kind, r.body, string(header))
	}
	f.Fuzz(func(t *testing.T, method, address, kind, body, headers string) {
		u, err := url.Parse(address)
		if err != nil {
			return
		}
		var header http.Header
		_ = json.Unmarshal([]byte(headers), &header)
		if header == nil {
			header = http.Header{}
		}
		header.Set("Content-Type", kind)
		for _, p := range list {
			receipts, err := p.reader.Read(&http.Request{Method: method, URL: u, Header: header}, []byte(body))
			if err != nil && !errors.Is(err, receipt.ErrForged) && !errors.Is(err, receipt.ErrUnreadable) || err != nil && len(receipts) > 0 {
				t.Errorf("%s: %+v, %v", p.name, receipts, err)
			}
			for _, r := range receipts {
				if r.MessageID == "" {
					t.Errorf("%s: a receipt without a message", p.name)
				}
			}
		}
	})
}
