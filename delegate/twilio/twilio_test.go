package twilio_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/delegate/twilio"
	"example.com/threepid/internal/providertest"
	"example.com/threepid/store"
)

func open(tb testing.TB, address string) delegate.Service {
	tb.Helper()
	return openWith(tb, twilio.Options{AccountSID: "ACk3y", AuthToken: "token-k3y", ServiceSID: "VA1", BaseURL: address})
}

func openWith(tb testing.TB, o twilio.Options) delegate.Service {
	tb.Helper()
	s, err := twilio.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func refusal(code string) (int, string) {
	status := map[string]int{
		"20003": 401, "20404": 404, "20429": 429, "20500": 500, "20503": 503, "60202": 429, "60203": 429, "60212": 429, "60410": 403,
	}[code]
	if status == 0 {
		status = http.StatusBadRequest
	}
	return status, fmt.Sprintf(`{"code":%s,"message":"+447400123456 123456 k3y","status":%d}`, code, status)
}

func TestCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Twilio Verify", providertest.Starting(open), refusal)
	providertest.Codes(t, "Twilio Verify, checking", providertest.Checking(open), refusal)
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
		{201, `{"sid":"VE1","status":"approved","valid":true}`, "accepted", "accepted"},
		{201, `{"sid":"VE1","status":"pending","valid":false}`, "accepted", "incorrect"},
		{201, `{"sid":"VE1","status":"max_attempts_reached"}`, "accepted", "over"},
		{201, `{"sid":"VE1","status":"expired"}`, "accepted", "over"},
		{201, `{"sid":"VE1","status":"canceled"}`, "accepted", "over"},
		{201, `{"status":"k3y"}`, "uncertain", "uncertain"},
		{201, `<html>k3y 123456`, "uncertain", "uncertain"},
		{200, `{"sid":"VE1","status":"approved"}`, "uncertain", "accepted"},
		{401, ``, "misconfigured", "misconfigured"},
		{500, `{"code":"k3y"}`, "temporary", "temporary"},
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
	for code, want := range map[string]time.Duration{"60203": 10 * time.Minute, "60212": 10 * time.Minute, "20429": 0} {
		status, body := refusal(code)
		_, err := open(t, providertest.Server(t, status, body)).Start(t.Context(), providertest.Verification())
		var limit *delegate.LimitError
		if !errors.As(err, &limit) || limit.RetryAfter != want {
			t.Errorf("%s: %v, want %v", code, err, want)
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		options        twilio.Options
		purpose        store.Purpose
		service        string
		user, password string
	}{
		"token":     {twilio.Options{AccountSID: "AC1", AuthToken: "s", ServiceSID: "VA1"}, store.PurposePassword, "VA1", "AC1", "s"},
		"key":       {twilio.Options{APIKey: "SK1", APISecret: "s", ServiceSID: "VA1"}, store.PurposeAdd, "VA1", "SK1", "s"},
		"passwords": {twilio.Options{APIKey: "SK1", APISecret: "s", ServiceSID: "VA1", PasswordServiceSID: "VA2"}, store.PurposePassword, "VA2", "SK1", "s"},
		"others":    {twilio.Options{APIKey: "SK1", APISecret: "s", ServiceSID: "VA1", PasswordServiceSID: "VA2"}, store.PurposeAdd, "VA1", "SK1", "s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := map[string]string{
				"/v2/Services/" + row.service + "/Verifications":     "Channel=sms&To=%2B447400123456",
				"/v2/Services/" + row.service + "/VerificationCheck": "Code=123456&VerificationSid=VE1",
			}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				user, password, _ := r.BasicAuth()
				if r.Method != http.MethodPost || string(body) != want[r.URL.Path] || user != row.user || password != row.password ||
					r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
					t.Errorf("%s %s %s, %q %q", r.Method, r.URL, body, user, password)
				}
				w.WriteHeader(http.StatusCreated)
				_, _ = io.WriteString(w, `{"sid":"VE1","status":"approved"}`)
			}))
			defer server.Close()
			row.options.BaseURL = server.URL
			s := openWith(t, row.options)
			v, c := providertest.Verification(), providertest.Check()
			v.Purpose, c.Purpose, c.Handle = row.purpose, row.purpose, "VE1"
			if handle, err := s.Start(t.Context(), v); handle != "VE1" || err != nil {
				t.Error(handle, err)
			}
			if err := s.Check(t.Context(), c); err != nil {
				t.Error(err)
			}
			c.Handle = ""
			if err := s.Check(t.Context(), c); !errors.Is(err, delegate.ErrExpired) {
				t.Errorf("without a verification: %v", err)
			}
		})
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	good := twilio.Options{AccountSID: "ACk3y", AuthToken: "k3y", ServiceSID: "VA1"}
	for name, change := range map[string]func(*twilio.Options){
		"no account": func(o *twilio.Options) { o.AccountSID = "" },
		"no token":   func(o *twilio.Options) { o.AuthToken = "" },
		"half a key": func(o *twilio.Options) { o.APIKey = "SKk3y" },
		"no service": func(o *twilio.Options) { o.ServiceSID = "" },
		"URL":        func(o *twilio.Options) { o.BaseURL = "https://me:k3y@verify.twilio.com" },
	} {
		o := good
		change(&o)
		_, err := twilio.New(o)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		providertest.TellsNothing(t, err)
	}
}
