// Package providertest holds the checks that every provider over HTTP must
// pass: each row of its table in docs/PROVIDERS.md, and what a network can do.
package providertest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid/delegate"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// Row is a row of a table in docs/PROVIDERS.md.
type Row struct{ Code, Class string }

// Rows reads the table of a section: codes in backticks, several with commas; then
// the class.
func Rows(tb testing.TB, section string) []Row {
	tb.Helper()
	text := read(tb)
	_, text, found := strings.Cut(text, "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n#") // the next heading, of whichever level
	var rows []Row
	for line := range strings.Lines(text) {
		cells := strings.Split(line, "|")
		const least = 4
		if len(cells) < least || !strings.Contains(cells[1], "`") {
			continue
		}
		for code := range strings.SplitSeq(cells[1], ",") {
			rows = append(rows, Row{strings.Trim(code, " `"), strings.TrimSpace(cells[2])})
		}
	}
	if !found || len(rows) == 0 {
		tb.Fatalf("docs/PROVIDERS.md has no table for %s", section)
	}
	return rows
}

// Validity checks that a request has the parameter for the validity period that
// docs/PROVIDERS.md has for the package, with the message's 599 seconds in its unit.
func Validity(tb testing.TB, name, request string) {
	tb.Helper()
	for line := range strings.Lines(read(tb)) {
		cells := strings.Split(line, "|")
		if len(cells) < 6 || !strings.Contains(cells[1], "`"+name+"`") {
			continue
		}
		parameter := strings.Split(cells[4], "`")
		values := map[string]string{"milliseconds": "599000", "seconds": "599", "minutes": "9"}
		if len(parameter) < 3 {
			tb.Fatalf("docs/PROVIDERS.md has no parameter for %s", name)
		}
		value := values[strings.Trim(parameter[2], " ,")]
		if !strings.Contains(request, parameter[1]) || value == "" || !strings.Contains(request, value) {
			tb.Errorf("%s: %s, but docs/PROVIDERS.md says %s", name, request, cells[4])
		}
		return
	}
	tb.Fatalf("docs/PROVIDERS.md does not have %s", name)
}

// read finds the file from the folder of any package's tests.
func read(tb testing.TB) string {
	tb.Helper()
	for dir := "."; ; dir = filepath.Join(dir, "..") {
		text, err := os.ReadFile(filepath.Join(dir, "docs", "PROVIDERS.md"))
		if err == nil {
			return string(text)
		}
		if abs, _ := filepath.Abs(dir); abs == string(filepath.Separator) {
			tb.Fatal("docs/PROVIDERS.md is not there")
		}
	}
}

// Message is one that the tests send.
func Message() sms.Message {
	return sms.Message{
		ID: "msg_0123456789abcdef", To: "+447400123456", Text: "123456 is your Example code.", Country: "GB", Attempt: 1,
		Validity: 10*time.Minute - time.Second,
	}
}

// Class is the word of docs/PROVIDERS.md for the result of Send, or of a delegate.
func Class(err error) string {
	if _, limited := errors.AsType[*delegate.LimitError](err); limited {
		return "limited"
	}
	switch {
	case err == nil:
		return "accepted"
	case errors.Is(err, delegate.ErrIncorrect):
		return "incorrect"
	case errors.Is(err, delegate.ErrExpired):
		return "over"
	case errors.Is(err, sms.ErrRejected):
		return "rejected"
	case errors.Is(err, sms.ErrMisconfigured):
		return "misconfigured"
	case errors.Is(err, sms.ErrUncertain):
		return "uncertain"
	default:
		return "temporary"
	}
}

// Secret is what the tests' credentials contain, and no error may.
const Secret = "k3y"

// TellsNothing fails the test if an error contains a secret, which must not be logged.
func TellsNothing(tb testing.TB, err error) {
	tb.Helper()
	if err == nil {
		return
	}
	for _, secret := range []string{Secret, "123456", "447400"} {
		if strings.Contains(err.Error(), secret) {
			tb.Errorf("the error has %q: %v", secret, err)
		}
	}
}

// Codes makes a server return each code of the section's table, and checks the result of Send.
func Codes(t *testing.T, section string, open Open, answer func(code string) (status int, body string)) {
	t.Helper()
	for _, row := range Rows(t, section) {
		t.Run(row.Code, func(t *testing.T) {
			t.Parallel()
			status, body := answer(row.Code)
			err := open(t, Server(t, status, body)).Send(t.Context(), Message())
			if got := Class(err); got != row.Class {
				t.Errorf("%v: %s, but docs/PROVIDERS.md says %s", err, got, row.Class)
			}
			TellsNothing(t, err)
		})
	}
}

// Open makes a Sender whose provider is at a URL. Its credentials contain Secret.
type Open func(tb testing.TB, url string) sms.Sender

// Verification is the code that the tests make a delegate send.
func Verification() delegate.StartRequest {
	m := Message()
	return delegate.StartRequest{
		ID: m.ID, Secret: strings.Repeat("5ec", 21), To: m.To, Country: m.Country, Purpose: store.PurposeAdd, Attempt: m.Attempt,
	}
}

// Check is the token of Verification as a person typed it, which a delegate compares.
func Check() delegate.CheckRequest {
	v := Verification()
	return delegate.CheckRequest{Handle: "handle1", Secret: v.Secret, To: v.To, Purpose: v.Purpose, Token: "123456"}
}

// Starting lets the checks for a Sender test a delegate's Start.
func Starting(open func(tb testing.TB, url string) delegate.Service) Open {
	return func(tb testing.TB, url string) sms.Sender {
		tb.Helper()
		service := open(tb, url)
		return sms.Func(func(ctx context.Context, _ sms.Message) error {
			_, err := service.Start(ctx, Verification())
			return err
		})
	}
}

// Checking lets the checks for a Sender test a delegate's Check.
func Checking(open func(tb testing.TB, url string) delegate.Service) Open {
	return func(tb testing.TB, url string) sms.Sender {
		tb.Helper()
		service := open(tb, url)
		return sms.Func(func(ctx context.Context, _ sms.Message) error { return service.Check(ctx, Check()) })
	}
}

// Server gives every request the same response, which also repeats the request, as
// careless providers do.
func Server(tb testing.TB, status int, body string) string {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	tb.Cleanup(server.Close)
	return server.URL
}

// Network makes a provider fail in the ways of a network.
func Network(t *testing.T, open Open) {
	t.Helper()
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		expect(t, open(t, "http://127.0.0.1:1").Send(t.Context(), Message()), "temporary")
	})
	t.Run("hangs up", func(t *testing.T) {
		t.Parallel()
		expect(t, open(t, serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).
			Send(t.Context(), Message()), "uncertain")
	})
	t.Run("hangs up on a used connection", func(t *testing.T) {
		t.Parallel()
		var requests atomic.Int32
		sender := open(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
			if requests.Add(1) > 1 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		expect(t, sender.Send(t.Context(), Message()), "temporary")
		expect(t, sender.Send(t.Context(), Message()), "uncertain")
		if got := requests.Load(); got != 2 {
			t.Errorf("2 calls made %d requests", got)
		}
	})
	t.Run("hangs", func(t *testing.T) {
		t.Parallel()
		url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		expect(t, open(t, url).Send(ctx, Message()), "uncertain")
	})
	t.Run("stops half-way", func(t *testing.T) {
		t.Parallel()
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("{"))
		})
		expect(t, open(t, url).Send(t.Context(), Message()), "uncertain")
	})
	t.Run("never ends", func(t *testing.T) {
		t.Parallel()
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<10)); err != nil {
					return
				}
			}
		})
		expect(t, open(t, url).Send(t.Context(), Message()), "temporary")
	})
	t.Run("redirects", func(t *testing.T) {
		t.Parallel()
		var followed bool
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			followed = followed || r.URL.Path == "/k3y"
			w.Header().Set("Location", "/k3y")
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		expect(t, open(t, url).Send(t.Context(), Message()), "misconfigured")
		if followed {
			t.Error("a redirect was followed with the credentials")
		}
	})
}

func serve(tb testing.TB, handle http.HandlerFunc) string {
	tb.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A server learns that its caller has gone only once the request is read.
		_, _ = io.Copy(io.Discard, r.Body)
		handle(w, r)
	}))
	tb.Cleanup(server.Close)
	return server.URL
}

func expect(tb testing.TB, err error, class string) {
	tb.Helper()
	if got := Class(err); got != class {
		tb.Errorf("%v: %s, want %s", err, got, class)
	}
	TellsNothing(tb, err)
}
