package identityserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/delegate/identityserver"
	"example.com/threepid/internal/providertest"
)

func open(tb testing.TB, address string) delegate.Service {
	tb.Helper()
	s, err := identityserver.New(identityserver.Options{BaseURL: address, AccessToken: "token-k3y"})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func refusal(code string) (int, string) {
	status := map[string]int{"M_LIMIT_EXCEEDED": 429, "M_UNAUTHORIZED": 401, "M_UNKNOWN": 500, "M_NOT_FOUND": 404, "M_NO_VALID_SESSION": 404}[code]
	if status == 0 {
		status = http.StatusBadRequest
	}
	return status, fmt.Sprintf(`{"errcode":%q,"error":"+447400123456 123456 k3y","success":false}`, code)
}

func TestCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Identity server", providertest.Starting(open), refusal)
	providertest.Codes(t, "Identity server, checking", providertest.Checking(open), refusal)
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	providertest.Network(t, providertest.Starting(open))
	providertest.Network(t, providertest.Checking(open))
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		status       int
		body         string
		start, check string
	}{
		{200, `{"sid":"1234","success":true}`, "accepted", "accepted"},
		{200, `{"success":false}`, "uncertain", "incorrect"},
		{200, `{}`, "uncertain", "uncertain"},
		{200, `<html>k3y 123456`, "uncertain", "uncertain"},
		{201, `{"sid":"1234","success":true}`, "uncertain", "uncertain"},
		{400, `{"errcode":"M_k3y 123456"}`, "misconfigured", "misconfigured"},
		{429, ``, "limited", "temporary"},
		{500, `{"errcode":1}`, "temporary", "temporary"},
		{502, ``, "uncertain", "uncertain"},
	} {
		s := open(t, providertest.Server(t, row.status, row.body))
		_, start := s.Start(t.Context(), providertest.Verification())
		check := s.Check(t.Context(), providertest.Check())
		if providertest.Class(start) != row.start || providertest.Class(check) != row.check {
			t.Errorf("%d %s: %v; %v; want %s, %s", row.status, row.body, start, check, row.start, row.check)
		}
		providertest.TellsNothing(t, start)
		providertest.TellsNothing(t, check)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]time.Duration{
		`{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":2500}`:             2500 * time.Millisecond,
		`{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":9000000000000000}`: 24 * time.Hour,
		`{"errcode":"M_LIMIT_EXCEEDED"}`:                                   0,
	} {
		_, err := open(t, providertest.Server(t, http.StatusTooManyRequests, body)).Start(t.Context(), providertest.Verification())
		var limit *delegate.LimitError
		if !errors.As(err, &limit) || limit.RetryAfter != want {
			t.Errorf("%s: %v, want %v", body, err, want)
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	v, c := providertest.Verification(), providertest.Check()
	want := map[string]map[string]any{
		"/base/_matrix/identity/v2/validate/msisdn/requestToken": {
			"client_secret": v.Secret, "country": "GB", "phone_number": "+447400123456", "send_attempt": 2.,
		},
		"/base/_matrix/identity/v2/validate/msisdn/submitToken": {"sid": "handle1", "client_secret": v.Secret, "token": "123456"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var got map[string]any
		_ = json.Unmarshal(body, &got)
		if r.Method != http.MethodPost || r.Header.Get("Authorization") != "Bearer token-k3y" || !reflect.DeepEqual(got, want[r.URL.Path]) {
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
		_, _ = io.WriteString(w, `{"sid":"handle1","success":true}`)
	}))
	defer server.Close()
	s := open(t, server.URL+"/base/")
	if handle, err := s.Start(t.Context(), v); handle != "handle1" || err != nil {
		t.Error(handle, err)
	}
	if err := s.Check(t.Context(), c); err != nil {
		t.Error(err)
	}
	c.Handle = ""
	if err := s.Check(t.Context(), c); !errors.Is(err, delegate.ErrExpired) {
		t.Errorf("without a sid: %v", err)
	}
}

func TestGreatestAttempt(t *testing.T) {
	t.Parallel()
	const most = 1<<53 - 1
	v := providertest.Verification()
	for attempt, want := range map[int64]int64{0: 1, most - 1: most, most: most} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var got struct {
				Attempt int64 `json:"send_attempt"`
			}
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil || got.Attempt != want {
				t.Errorf("attempt %d: %d, %v", attempt, got.Attempt, err)
			}
			_, _ = io.WriteString(w, `{"sid":"1"}`)
		}))
		v.Attempt = attempt
		if _, err := open(t, server.URL).Start(t.Context(), v); err != nil {
			t.Error(err)
		}
		server.Close()
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		options identityserver.Options
		yes, no []string
	}{
		{
			identityserver.Options{BaseURL: "https://ID.example.org:8448/x", AccessToken: "t"},
			[]string{"id.example.org:8448", "ID.EXAMPLE.ORG:8448"},
			[]string{"id.example.org", "https://id.example.org:8448", "evil.example", ""},
		},
		{
			identityserver.Options{BaseURL: "http://127.0.0.1:8090", AccessToken: "t", Names: []string{"Example.org", "vector.im"}},
			[]string{"example.org", "vector.im"},
			[]string{"127.0.0.1:8090"},
		},
	} {
		s, err := identityserver.New(row.options)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range row.yes {
			if !s.MatchesServer(name) {
				t.Errorf("%q is not trusted", name)
			}
		}
		for _, name := range row.no {
			if s.MatchesServer(name) {
				t.Errorf("%q is trusted", name)
			}
		}
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []identityserver.Options{
		{},
		{BaseURL: "https://id.example.org"},
		{AccessToken: "k3y"},
		{BaseURL: "https://me:k3y@id.example.org", AccessToken: "k3y"},
		{BaseURL: "https://id.example.org", AccessToken: "k3y\n"},
	} {
		_, err := identityserver.New(o)
		if err == nil {
			t.Errorf("%+v: accepted", o)
		}
		providertest.TellsNothing(t, err)
	}
}
