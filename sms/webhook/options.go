package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const (
	secretPrefix = "whsec_" // of a Standard Webhooks secret, before its base64
	minSecret    = 24       // bytes
	maxSecret    = 64       // bytes
)

var errURL = errors.New("webhook: the URL cannot be parsed")

// parseAddress validates a URL and returns its host, with the port if it has one.
func parseAddress(address string) (host string, err error) {
	u, err := url.Parse(address)
	switch {
	case err != nil: // which quotes the URL
		return "", errURL
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("webhook: the URL must be absolute, and begin with https:// or http://")
	case u.Hostname() == "":
		return "", errors.New("webhook: the URL has no host")
	case strings.Contains(address, "#"):
		return "", errors.New("webhook: the URL must not have a fragment; a # in its path or query is written %23")
	}
	return u.Host, nil
}

// parseSecret returns the key of a secret, or nil for none. It requires the prefix because
// other strings, such as a key in hexadecimal, are valid base64 too, and would give
// signatures that the gateway refuses.
func parseSecret(secret string) ([]byte, error) {
	if secret == "" {
		return nil, nil
	}
	encoded, prefixed := strings.CutPrefix(secret, secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !prefixed || err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf("webhook: Options.Secret must be %q and the base64 of %d to %d bytes", secretPrefix, minSecret, maxSecret)
	}
	return key, nil
}

// parseHeader returns a copy with canonical names, because net/http would send
// "content-type" in addition to Content-Type, and without the headers that the Sender sets.
func parseHeader(given http.Header) (http.Header, error) {
	header := make(http.Header, len(given))
	for name, values := range given {
		if name == "" || strings.ContainsFunc(name, notInName) {
			return nil, errors.New("webhook: Options.Header has a name that HTTP does not allow")
		}
		for _, value := range values {
			if strings.ContainsFunc(value, notInValue) {
				return nil, fmt.Errorf("webhook: the value of %s in Options.Header has control characters", name)
			}
			header.Add(name, value)
		}
	}
	for _, name := range []string{
		"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Idempotency-Key", "Content-Type", "User-Agent",
		"Host", "Content-Length", "Transfer-Encoding", "Trailer",
	} {
		header.Del(name)
	}
	return header, nil
}

// notInName reports whether a token of RFC 9110, section 5.6.2, must not contain r.
func notInName(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	default:
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}
}

func notInValue(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
