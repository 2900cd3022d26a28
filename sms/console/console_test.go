package console_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"example.com/threepid/sms"
	"example.com/threepid/sms/console"
)

func Example() {
	sender := console.New(os.Stdout)
	_ = sender.Send(context.Background(), sms.Message{To: "+447700900001", Text: "123456 is your Example code."})
	// Output: SMS to +447700900001: 123456 is your Example code.
}

// TestNothingIsForged writes a text that tries to look like two messages, and to clear the screen.
func TestNothingIsForged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	text := "1\nSMS to +1: 2\r\x1b[2J\u202eé漢"
	if err := console.New(&out).Send(t.Context(), sms.Message{To: "+44\n", Text: text}); err != nil {
		t.Fatal(err)
	}
	if want := `SMS to +44\n: 1\nSMS to +1: 2\r\x1b[2J\u202eé漢` + "\n"; out.String() != want {
		t.Errorf("wrote %q, want %q", out.String(), want)
	}
}

// oneWrite fails if a message is not written with one Write, or if two are written concurrently.
type oneWrite struct {
	t    *testing.T
	mu   sync.Mutex
	seen int
}

func (w *oneWrite) Write(p []byte) (int, error) {
	if !w.mu.TryLock() {
		w.t.Error("two writes at once")
		return len(p), nil
	}
	defer w.mu.Unlock()
	if !bytes.HasPrefix(p, []byte("SMS to ")) || !bytes.HasSuffix(p, []byte("\n")) {
		w.t.Errorf("part of a message: %q", p)
	}
	w.seen++
	return len(p), nil
}

func TestConcurrentSends(t *testing.T) {
	t.Parallel()
	w := &oneWrite{t: t}
	sender := console.New(w)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := sender.Send(t.Context(), sms.Message{To: "+1", Text: "x"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if w.seen != 100 {
		t.Errorf("%d writes", w.seen)
	}
}

type brokenPipe struct{}

var errBroken = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

func TestErrors(t *testing.T) {
	t.Parallel()
	if err := console.New(brokenPipe{}).Send(t.Context(), sms.Message{}); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	var out strings.Builder
	if err := console.New(&out).Send(done, sms.Message{}); !errors.Is(err, context.Canceled) || out.Len() > 0 {
		t.Errorf("error %v, wrote %q", err, out.String())
	}
}
