package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// visit gets a path of the example and returns the status. It decodes the JSON body into
// the given value, unless that is nil. authorization may be empty.
func (s *server) visit(path, authorization string, into any) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if into != nil {
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			s.t.Errorf("%s: %v", path, err)
		}
	}
	return res.StatusCode
}

// TestPhoneOnlyWithAConsole checks that the page is always served. The phone shows codes, so it must
// be served only if SMS go to the console, and only this machine can reach the server.
func TestPhoneOnlyWithAConsole(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args  []string
		phone bool
	}{
		"console":                     {nil, true},
		"localhost by name":           {[]string{"-listen", "localhost:0"}, true},
		"webhook":                     {[]string{"-sms", "webhook:http://127.0.0.1:1"}, false},
		"console among others":        {[]string{"-sms", "console,webhook:http://127.0.0.1:1"}, false},
		"reached from elsewhere":      {[]string{"-public-url", "https://example.org"}, false},
		"behind a proxy":              {[]string{"-trusted-proxies", "127.0.0.1"}, false},
		"listening to other machines": {[]string{"-listen", ":0"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, row.args...)
			if !strings.Contains(s.stdout.String(), "Listening on "+s.url+"/") {
				t.Errorf("the output at start does not contain the URL of the page:\n%s", s.stdout)
			}
			if status := s.visit("/", "", nil); status != http.StatusOK {
				t.Errorf("the page has status %d", status)
			}
			var config struct {
				Phone bool `json:"phone"`
			}
			if s.visit("/demo/config", "", &config); config.Phone != row.phone {
				t.Errorf("the configuration has phone %v, want %v", config.Phone, row.phone)
			}
			want := http.StatusNotFound
			if row.phone {
				want = http.StatusOK
			}
			if status := s.visit("/demo/texts", "", nil); status != want {
				t.Errorf("/demo/texts has status %d, want %d", status, want)
			}
		})
	}
}

// TestShutdownWithAPageOpen checks that an open page with a phone does not delay the shutdown.
func TestShutdownWithAPageOpen(t *testing.T) {
	t.Parallel()
	s := start(t)
	res, err := http.Get(s.url + "/demo/texts")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	begun := time.Now()
	s.stop()
	if took := time.Since(begun); took > quick {
		t.Errorf("the shutdown took %v", took)
	}
}

// TestGuests checks that the endpoints for an account's numbers accept the tokens of guests.
func TestGuests(t *testing.T) {
	t.Parallel()
	s := start(t)
	for authorization, status := range map[string]int{
		"":                                  http.StatusUnauthorized,
		"Bearer guess":                      http.StatusUnauthorized,
		"Bearer " + strings.Repeat("A", 43): http.StatusOK,
	} {
		if got := s.visit("/_api/client/v3/account/3pid", authorization, nil); got != status {
			t.Errorf("%q: status %d, want %d", authorization, got, status)
		}
	}
}
