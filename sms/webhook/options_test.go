package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/threepid/sms/webhook"
)

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestPublishedSignature uses the test vector of the Standard Webhooks libraries.
func TestPublishedSignature(t *testing.T) {
	t.Parallel()
	sender := open(t, "https://example.org", webhook.Options{Secret: secret})
	got := sender.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestSignature verifies the signature as a receiver does, from the bytes received.
func TestSignature(t *testing.T) {
	t.Parallel()
	url := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(r.Header.Get("webhook-id") + "." + r.Header.Get("webhook-timestamp") + "."))
		mac.Write(body)
		version, signature, _ := strings.Cut(r.Header.Get("webhook-signature"), ",")
		sent, err := base64.StdEncoding.DecodeString(signature)
		if version != "v1" || err != nil || !hmac.Equal(sent, mac.Sum(nil)) ||
			r.Header.Get("webhook-id") != message.ID || r.Header.Get("webhook-timestamp") != "1614265330" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	sender := open(t, url, webhook.Options{Secret: secret, Now: func() time.Time { return time.Unix(1614265330, 999) }})
	if err := sender.Send(t.Context(), message); err != nil {
		t.Error(err)
	}
}

func TestSecretLengths(t *testing.T) {
	t.Parallel()
	for length, good := range map[int]bool{1: false, 23: false, 24: true, 32: true, 64: true, 65: false} {
		given := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, length))
		if _, err := webhook.New("https://example.org", webhook.Options{Secret: given}); (err == nil) != good {
			t.Errorf("%d bytes: %v", length, err)
		}
	}
}

func TestSecretRefused(t *testing.T) {
	t.Parallel()
	const encoded = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	for _, given := range []string{
		"whsec_", "whsec_!!!", "whsec_" + encoded + "!", encoded, "whsk_" + encoded, " " + secret, "WHSEC_" + encoded,
		strings.Repeat("0123456789abcdef", 4), // hexadecimal, and base64 of 48 bytes
	} {
		_, err := webhook.New("https://example.org", webhook.Options{Secret: given})
		if err == nil || !strings.Contains(err.Error(), "Secret") || strings.Contains(err.Error(), "cdef") {
			t.Errorf("%q: %v", given, err)
		}
		tellsNothing(t, err)
	}
}

// forged are headers that the caller cannot set, in two spellings.
func forged() http.Header {
	header := make(http.Header)
	for _, name := range []string{
		"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Idempotency-Key", "Content-Type", "User-Agent",
		"Host", "Content-Length", "Transfer-Encoding", "Trailer",
	} {
		header[name] = []string{"forged"}
		header[strings.ToLower(name)] = []string{"forged"}
	}
	return header
}

// TestHTTP2 uses a server with HTTP/2, which forbids some headers.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.ProtoMajor != 2 || !strings.Contains(string(body), message.ID) {
			w.WriteHeader(http.StatusHTTPVersionNotSupported)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	sender := open(t, server.URL, webhook.Options{Client: server.Client(), Header: forged()})
	if err := sender.Send(t.Context(), message); err != nil {
		t.Error(err)
	}
}

// TestHeader tries to set headers that the sender sets itself.
func TestHeader(t *testing.T) {
	t.Parallel()
	for _, given := range []string{"", secret} {
		var got *http.Request
		url := gateway(t, func(_ http.ResponseWriter, r *http.Request) { got = r })
		header := forged()
		header["x-tenant"], header["Authorization"] = []string{"a", "b"}, []string{"Bearer abc"}
		sender := open(t, url, webhook.Options{Secret: given, Header: header})
		header["Authorization"][0] = "changed"
		if err := sender.Send(t.Context(), message); err != nil {
			t.Fatal(err)
		}
		if "http://"+got.Host != url || len(got.TransferEncoding) > 0 {
			t.Errorf("host %q, transfer encoding %q", got.Host, got.TransferEncoding)
		}
		for name, values := range got.Header {
			if slices.Contains(values, "forged") || len(values) > 1 && name != "X-Tenant" {
				t.Errorf("%s: %q", name, values)
			}
		}
		if !slices.Equal(got.Header["X-Tenant"], []string{"a", "b"}) || got.Header.Get("Authorization") != "Bearer abc" {
			t.Errorf("headers %v", got.Header)
		}
		if signed := got.Header.Get("Webhook-Signature") != ""; signed != (given != "") {
			t.Errorf("signed: %v", signed)
		}
	}
}

func TestHeaderRefused(t *testing.T) {
	t.Parallel()
	for _, header := range []http.Header{
		{"": {"a"}},
		{"X k3y": {"a"}},
		{"X:": {"a"}},
		{"É": {"a"}},
		{"X-A\r\nX-B": {"a"}},
		{"X-A": {"k3y\r\nX-B: b"}},
		{"X-A": {"fine", "k3y\x00"}},
		{"X-A": {"\x7f"}},
	} {
		_, err := webhook.New("https://example.org", webhook.Options{Header: header})
		if err == nil || !strings.Contains(err.Error(), "Header") {
			t.Errorf("%q: %v", header, err)
		}
		tellsNothing(t, err)
	}
	fine := http.Header{"X-A_b.c!": {"a\tb", "é", ""}}
	if _, err := webhook.New("https://example.org", webhook.Options{Header: fine}); err != nil {
		t.Error(err)
	}
}

func TestAddressRefused(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"": "absolute", "nowhere": "absolute", "/path": "absolute", "//example.org/path": "absolute",
		"ftp://example.org/k3y": "https://", "https://": "no host", "https:///path": "no host", "https://:443/path": "no host",
		"https:example.org/path": "no host", "https://me:hunter2@/path": "no host", "http://exa mple.org/path": "parsed",
		"https://me:hunter2@[::1/path": "parsed", "https://example.org:k3y/path": "parsed",
		"https://example.org/path#k3y": "fragment", "https://example.org/path#": "fragment",
	} {
		_, err := webhook.New(address, webhook.Options{})
		if err == nil || !strings.Contains(err.Error(), "URL") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
		tellsNothing(t, err)
	}
}

func TestBasicAuthentication(t *testing.T) {
	t.Parallel()
	url := gateway(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	if err := open(t, strings.Replace(url, "http://", "http://me:hunter2@", 1), webhook.Options{}).Send(t.Context(), message); err != nil {
		t.Error(err)
	}
}
