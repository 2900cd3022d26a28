// Package console writes messages to a terminal instead of sending them. It is for
// development only: anybody who sees the terminal sees the codes.
package console

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"example.com/threepid/sms"
)

var _ sms.Sender = (*Sender)(nil)

// Sender writes each message to a writer.
type Sender struct {
	mu sync.Mutex
	w  io.Writer
}

// New returns a Sender that writes to w, one Write a message.
func New(w io.Writer) *Sender { return &Sender{w: w} }

// Send writes the message. It escapes control characters, so that a text can neither forge
// another message nor control the terminal.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	sms.Report(ctx, sms.Result{Provider: "console"})
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := fmt.Fprintf(s.w, "SMS to %s: %s\n", plain(m.To), plain(m.Text)); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}

// plain escapes what is not printable.
func plain(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
