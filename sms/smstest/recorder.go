// Package smstest helps to test code that sends SMS. It has a [Recorder], which records
// messages, and senders that fail in various ways.
package smstest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"example.com/threepid/sms"
)

var _ sms.Sender = (*Recorder)(nil)

// Recorder is a Sender that accepts and records messages. Its methods are safe for
// concurrent use. The zero value is ready to use.
type Recorder struct {
	mu       sync.Mutex
	calls    []sms.Message
	accepted []sms.Message
	queue    []error       // outcomes of the next calls
	always   error         // outcome of the calls after those
	held     chan struct{} // if not nil, calls wait for it to be closed
	changed  chan struct{} // created by a goroutine that waits for a message, closed when one is accepted
}

// New returns a Recorder that accepts everything.
func New() *Recorder { return new(Recorder) }

// Send records the message, reports its ID as the provider's, and accepts it, unless Fail or FailAlways determines another
// outcome. If ctx ends before or while the call is held, Send returns the error of ctx; an
// outcome that Fail queued for the call is used nevertheless.
func (r *Recorder) Send(ctx context.Context, m sms.Message) error {
	sms.Report(ctx, sms.Result{Provider: "smstest", MessageID: m.ID})
	r.mu.Lock()
	r.calls = append(r.calls, m)
	outcome := r.always
	if len(r.queue) > 0 {
		outcome, r.queue = r.queue[0], r.queue[1:]
	}
	held := r.held
	r.mu.Unlock()

	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if outcome != nil {
		return outcome
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accepted = append(r.accepted, m)
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
	return nil
}

// Fail queues the results of the next calls of Send, in order. nil accepts the message.
func (r *Recorder) Fail(outcomes ...error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, outcomes...)
}

// FailAlways sets the result of all calls for which Fail has queued none. nil accepts
// messages again.
func (r *Recorder) FailAlways(outcome error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.always = outcome
}

// Hold makes later calls of Send wait until release is called or their context ends. If Hold
// is called again, later calls wait for the latest one. release may be called more than once.
func (r *Recorder) Hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(chan struct{})
	r.held = held
	return sync.OnceFunc(func() { close(held) })
}

// Messages returns the messages accepted, first to last.
func (r *Recorder) Messages() []sms.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.accepted)
}

// Calls returns the messages of all calls, accepted or not, first to last.
func (r *Recorder) Calls() []sms.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// To returns the messages accepted for a number.
func (r *Recorder) To(number string) []sms.Message {
	return slices.DeleteFunc(r.Messages(), func(m sms.Message) bool { return m.To != number })
}

// Count returns how many messages were accepted.
func (r *Recorder) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.accepted)
}

// Last returns the latest message accepted; ok is false before the first.
func (r *Recorder) Last() (m sms.Message, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.accepted) == 0 {
		return sms.Message{}, false
	}
	return r.accepted[len(r.accepted)-1], true
}

// Wait waits for the n-th message accepted, counted from 1, and returns it, or the error of
// ctx.
func (r *Recorder) Wait(ctx context.Context, n int) (sms.Message, error) {
	for {
		r.mu.Lock()
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		accepted, changed := r.accepted, r.changed
		r.mu.Unlock()
		if n >= 1 && n <= len(accepted) {
			return accepted[n-1], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return sms.Message{}, fmt.Errorf("smstest: message %d was not sent: %w", n, ctx.Err())
		}
	}
}

// Token returns the code in a message: the longest run of ASCII digits, the first of them if
// several have the same length, or an empty string if there is none.
func Token(m sms.Message) string {
	var longest string
	start := 0
	for i := range len(m.Text) {
		if c := m.Text[i]; c < '0' || c > '9' {
			start = i + 1
		} else if run := m.Text[start : i+1]; len(run) > len(longest) {
			longest = run
		}
	}
	return longest
}
