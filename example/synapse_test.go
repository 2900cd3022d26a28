package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// synapse sends the same three requests as a Synapse with account_threepid_delegates.msisdn
// (synapse/handlers/identity.py). They use version 1 of the API and canonical JSON, and time out
// after 60 seconds.
type synapse struct{ delegate string }

// synapseError is an error that Synapse returns to its client.
type synapseError struct {
	status  int
	errcode string
	message string
	wait    float64 // retry_after_ms of the body, which Synapse passes on
}

func (e *synapseError) Error() string {
	return fmt.Sprintf("%d %s: %s", e.status, e.errcode, e.message)
}

var errTimedOut = &synapseError{500, "M_UNKNOWN", "Timed out contacting identity server", 0}

func (s synapse) call(t *testing.T, method, path string, body any) (map[string]any, error) {
	t.Helper()
	const timeout = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var canonical bytes.Buffer
	if body != nil {
		encoder := json.NewEncoder(&canonical) // sorts the keys of a map
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(body); err != nil {
			t.Fatal(err)
		}
		canonical.Truncate(canonical.Len() - 1)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.delegate+path, &canonical)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("User-Agent", "Synapse")
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, errTimedOut
	}
	defer func() { _ = res.Body.Close() }()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(content, &fields); err != nil {
		t.Fatalf("%s %s: HTTP %d without JSON: %q", method, path, res.StatusCode, content)
	}
	if res.StatusCode >= 200 && res.StatusCode < 300 {
		return fields, nil
	}
	failure := &synapseError{status: res.StatusCode, errcode: "M_UNKNOWN", message: res.Status}
	if errcode, ok := fields["errcode"].(string); ok {
		failure.errcode = errcode
	}
	if message, ok := fields["error"].(string); ok {
		failure.message = message
	}
	failure.wait, _ = fields["retry_after_ms"].(float64)
	return nil, failure
}

// requestToken does what Synapse does for a client's POST /account/3pid/msisdn/requestToken. It
// passes on every error.
func (s synapse) requestToken(t *testing.T, clientSecret, country, number string, attempt int) (map[string]any, error) {
	t.Helper()
	return s.call(t, http.MethodPost, "/_matrix/identity/api/v1/validate/msisdn/requestToken", map[string]any{
		"country": country, "phone_number": number, "client_secret": clientSecret, "send_attempt": attempt,
	})
}

// submitToken does what Synapse does for a client's POST
// /_matrix/client/unstable/add_threepid/msisdn/submit_token. It passes on the errors for a wrong and
// for an expired code, and replaces every other error by a general one.
func (s synapse) submitToken(t *testing.T, clientSecret, sid, token string) error {
	t.Helper()
	_, err := s.call(t, http.MethodPost, "/_matrix/identity/api/v1/validate/msisdn/submitToken", map[string]any{
		"client_secret": clientSecret, "sid": sid, "token": token,
	})
	var failure *synapseError
	switch {
	case !errors.As(err, &failure):
		return nil
	case failure == errTimedOut:
		return failure
	case failure.errcode == "M_TOKEN_INCORRECT":
		return &synapseError{400, "M_TOKEN_INCORRECT", "Token incorrect", 0}
	case failure.errcode == "M_SESSION_EXPIRED":
		return &synapseError{400, "M_SESSION_EXPIRED", "Session expired", 0}
	}
	return &synapseError{400, "M_UNKNOWN", "Error contacting the identity server", 0}
}

// validated does what Synapse does before it adds a number, registers an account or resets a
// password: it requests whether the number is validated. Every error means that it is not.
func (s synapse) validated(t *testing.T, clientSecret, sid string) (address string, ok bool) {
	t.Helper()
	query := url.Values{"sid": {sid}, "client_secret": {clientSecret}}.Encode()
	data, err := s.call(t, http.MethodGet, "/_matrix/identity/api/v1/3pid/getValidated3pid?"+query, nil)
	if err != nil || data["medium"] != "msisdn" {
		return "", false
	}
	at, isNumber := data["validated_at"].(float64)
	return data["address"].(string), isNumber && at > 0
}

// startIdentity runs the example with -identity-listen.
func startIdentity(t *testing.T, args ...string) (*server, synapse) {
	t.Helper()
	s := start(t, append([]string{"-identity-listen", "127.0.0.1:0"}, args...)...)
	return s, synapse{s.stdout.find(t, `identity service for homeservers: (http://[a-z0-9.:]+)`)}
}

// TestSynapse checks the response of the identity service to each request of Synapse, for each result.
func TestSynapse(t *testing.T) {
	t.Parallel()
	s, hs := startIdentity(t, "-limits", "default", "-guard", "off", "-countries", "GB,US")
	expect := func(name string, err error, status int, errcode string) {
		t.Helper()
		var failure *synapseError
		switch {
		case status == 0 && err != nil:
			t.Errorf("%s: %v", name, err)
		case status != 0 && (!errors.As(err, &failure) || failure.status != status || failure.errcode != errcode):
			t.Errorf("%s: %v, want %d %s", name, err, status, errcode)
		}
		t.Logf("%-34s %v", name, err)
	}
	for name, c := range map[string]struct {
		secret, country, number string
		errcode                 string
		status                  int
	}{
		"letters in the number": {"a", "GB", "0800FLOWERS", "M_INVALID_ADDRESS", 400},
		"no phone number":       {"a", "GB", "1", "M_INVALID_ADDRESS", 400},
		"an unknown country":    {"a", "ZZ", "07700900001", "M_INVALID_PARAM", 400},
		"invalid client_secret": {"a b", "GB", "07700900001", "M_INVALID_PARAM", 400},
		"a denied country":      {"a", "FR", "0612345678", "M_THREEPID_DENIED", 403},
	} {
		_, err := hs.requestToken(t, c.secret, c.country, c.number, 1)
		expect("requestToken: "+name, err, c.status, c.errcode)
	}
	data, err := hs.requestToken(t, "my-secret", "GB", "07700900001", 1)
	expect("requestToken", err, 0, "")
	sid := data["sid"].(string)
	code := s.stdout.find(t, `(\d{6}) is your`)
	_, err = hs.requestToken(t, "my-secret", "GB", "07700900001", 1)
	expect("requestToken: a retry", err, 0, "")
	if n := strings.Count(s.stdout.String(), code+" is your"); n != 1 {
		t.Errorf("%d SMS were sent for one attempt", n)
	}
	if _, ok := hs.validated(t, "my-secret", sid); ok {
		t.Error("validated before the code was submitted")
	}
	wrong := code[:5] + string('0'+(code[5]-'0'+1)%10)
	expect("submitToken: a wrong code", hs.submitToken(t, "my-secret", sid, wrong), 400, "M_TOKEN_INCORRECT")
	expect("submitToken: another client_secret", hs.submitToken(t, "other", sid, code), 400, "M_UNKNOWN")
	expect("submitToken", hs.submitToken(t, "my-secret", sid, code), 0, "")
	for range 2 {
		if address, ok := hs.validated(t, "my-secret", sid); !ok || address != "447700900001" {
			t.Errorf("getValidated3pid: %q, %v", address, ok)
		}
	}
	if _, ok := hs.validated(t, "other", sid); ok {
		t.Error("validated for another client_secret")
	}
	var failure *synapseError
	for attempt := 1; attempt < 20 && failure == nil; attempt++ {
		_, err := hs.requestToken(t, "impatient", "GB", "07700900002", attempt)
		errors.As(err, &failure)
	}
	if failure == nil || failure.status != http.StatusTooManyRequests || failure.wait <= 0 {
		t.Errorf("no limit was reached: %v, %v", failure, hs)
	}
	t.Logf("%-34s %v", "requestToken: too many", failure)
}

// TestIdentityListener checks that the example serves the identity service only on its own
// listener.
func TestIdentityListener(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, hs := startIdentity(t, "-identity-token", "first", "-identity-token", "@"+file)
	status := func(base, path, token string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.StatusCode
	}
	const v1, v2 = "/_matrix/identity/api/v1/validate/msisdn/requestToken", "/_matrix/identity/v2/validate/msisdn/requestToken"
	for _, path := range []string{v1, v2} {
		if got := status(s.url, path, "first"); got != http.StatusNotFound {
			t.Errorf("the public listener serves %s: %d", path, got)
		}
	}
	if got := status(hs.delegate, "/_api/client/v3/account/3pid/msisdn/requestToken", ""); got != http.StatusNotFound {
		t.Errorf("the identity listener serves clients: %d", got)
	}
	for token, want := range map[string]int{"": 401, "wrong": 401, "first": 200, "from-a-file": 200} {
		if got := status(hs.delegate, v2, token); got != want {
			t.Errorf("v2 with the token %q: %d, want %d", token, got, want)
		}
	}
	if got := status(hs.delegate, v1, ""); got != http.StatusOK {
		t.Errorf("v1: %d", got)
	}
	for _, secret := range []string{"first", "from-a-file"} {
		if strings.Contains(s.stderr.String()+s.stdout.String(), secret) {
			t.Errorf("the output contains the token %q", secret)
		}
	}
	s.stop()
}

// TestIdentityFlags checks that invalid flags are refused, and that an address that other machines can
// reach causes a warning.
func TestIdentityFlags(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"-identity-token", "a"},
		{"-identity-listen", "127.0.0.1:0", "-identity-token", ""},
		{"-identity-listen", "127.0.0.1:0", "-identity-token", "@" + filepath.Join(t.TempDir(), "absent")},
		{"-identity-listen", "nowhere:x"},
	} {
		cmd := command(t.Context(), t, append([]string{"-listen", "127.0.0.1:0"}, args...)...)
		if output, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%v: the example exited without an error:\n%s", args, output)
		}
	}
	s := start(t, "-identity-listen", "0.0.0.0:0")
	s.stderr.find(t, `level=WARN msg="(-identity-listen is not a loopback address)`)
}
