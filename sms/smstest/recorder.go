// Package smstest helps to test what sends text messages: a Recorder that takes
// them, and small senders that fail, which wrap others as testing/iotest's
// readers do.
package smstest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"example.com/threepid/sms"
)

var _ sms.Sender = (*Recorder)(nil)

// Recorder is a Sender that accepts messages and remembers them. All its
// methods may be called from many goroutines. Its zero value is ready for use.
type Recorder struct {
	mu       sync.Mutex
	calls    []sms.Message
	accepted []sms.Message
	queue    []error       // outcomes of the next calls
	always   error         // outcome of the calls after those
	held     chan struct{} // if not nil, calls wait for it to be closed
	changed  chan struct{} // made by who waits for a message, closed by the next one accepted
}

// New returns a Recorder that accepts everything.
func New() *Recorder { return new(Recorder) }

// Send records the message, and accepts it unless told otherwise. When ctx ends
// while the call is held, or has ended before, Send returns the error of ctx; the
// outcome that Fail queued for the call is used up all the same.
func (r *Recorder) Send(ctx context.Context, m sms.Message) error {
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

// Fail queues how the next calls end, in their order: nil accepts,
// [sms.ErrRejected] or an error that wraps it refuses the number for good, any
// other error is one after which another try may work.
func (r *Recorder) Fail(outcomes ...error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, outcomes...)
}

// FailAlways says how all calls end for which Fail has queued nothing: nil
// accepts again.
func (r *Recorder) FailAlways(outcome error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.always = outcome
}

// Hold makes the calls that come after it wait until release is called or their
// context ends. Hold may be called again, each call waits for the latest one
// before it; release may be called more than once.
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

// Wait returns the n-th message accepted, counted from 1, as soon as there is
// one, or the error of ctx.
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
			return sms.Message{}, fmt.Errorf("smstest: message %d has not come: %w", n, ctx.Err())
		}
	}
}

// Token finds the code in a message: the longest run of ASCII digits, the first
// of them if several are as long; empty if there is none.
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
