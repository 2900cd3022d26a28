package smstest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
)

var errFirst, errSecond = errors.New("first"), errors.New("second")

func message(to string) sms.Message { return sms.Message{To: to, Text: "123456 is your code."} }

func TestRecorder(t *testing.T) {
	t.Parallel()
	r := smstest.New()
	if _, ok := r.Last(); ok {
		t.Error("a message before the first")
	}
	r.Fail(errFirst, nil, errSecond)
	for i, want := range []error{errFirst, nil, errSecond, nil} {
		if err := r.Send(t.Context(), message([]string{"+1", "+2", "+3", "+4"}[i])); !errors.Is(err, want) {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	last, _ := r.Last()
	if len(r.Calls()) != 4 || r.Count() != 2 || len(r.Messages()) != 2 || last.To != "+4" || len(r.To("+2")) != 1 || len(r.To("+1")) != 0 {
		t.Errorf("calls %v, messages %v", r.Calls(), r.Messages())
	}
	r.FailAlways(errFirst)
	if err := r.Send(t.Context(), message("+5")); !errors.Is(err, errFirst) {
		t.Errorf("%v", err)
	}
}

func TestFailAlwaysComesAfterFail(t *testing.T) {
	t.Parallel()
	r := smstest.New()
	r.FailAlways(sms.ErrRejected)
	r.Fail(nil, errFirst)
	for i, want := range []error{nil, errFirst, sms.ErrRejected, sms.ErrRejected} {
		if err := r.Send(t.Context(), message("+1")); !errors.Is(err, want) {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	r.FailAlways(nil)
	if err := r.Send(t.Context(), message("+1")); err != nil || r.Count() != 2 {
		t.Errorf("%v, %d accepted", err, r.Count())
	}
}

// TestZeroValue also checks that a caller's changes to its copy have no effect.
func TestZeroValue(t *testing.T) {
	t.Parallel()
	var r smstest.Recorder
	if err := r.Send(t.Context(), message("+1")); err != nil {
		t.Error(err)
	}
	r.Messages()[0].To, r.Calls()[0].To, r.To("+1")[0].To = "+2", "+2", "+2"
	if m, err := r.Wait(t.Context(), 1); err != nil || m.To != "+1" || r.Calls()[0].To != "+1" {
		t.Errorf("%v, %v", m, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	r := smstest.New()
	release := r.Hold()
	var senders, readers sync.WaitGroup
	for i := range 100 {
		senders.Go(func() {
			if err := r.Send(t.Context(), message("+1")); err != nil {
				t.Error(err)
			}
		})
		readers.Go(func() {
			if _, err := r.Wait(t.Context(), i+1); err != nil {
				t.Error(err)
			}
			_, _ = r.Last()
			_, _, _ = r.Messages(), r.Calls(), r.To("+1")
		})
	}
	release()
	senders.Wait()
	readers.Wait()
	if r.Count() != 100 || len(r.Calls()) != 100 || len(r.To("+1")) != 100 {
		t.Errorf("%d accepted of %d", r.Count(), len(r.Calls()))
	}
}

// TestSendAfterTheEnd calls Send with a context that has ended.
func TestSendAfterTheEnd(t *testing.T) {
	t.Parallel()
	r := smstest.New()
	r.Fail(errFirst)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Send(done, message("+1")); !errors.Is(err, context.Canceled) || r.Count() != 0 || len(r.Calls()) != 1 {
		t.Errorf("%v, %d accepted", err, r.Count())
	}
	if err := r.Send(t.Context(), message("+1")); err != nil {
		t.Errorf("the outcome of the call before: %v", err)
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	r := smstest.New()
	release := r.Hold()
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.Send(short, message("+1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	sent := make(chan error, 1)
	go func() { sent <- r.Send(t.Context(), message("+2")) }()
	for len(r.Calls()) < 2 {
		time.Sleep(time.Millisecond)
	}
	if r.Count() != 0 {
		t.Error("accepted while held")
	}
	release()
	release()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := r.Send(t.Context(), message("+3")); err != nil || r.Count() != 2 {
		t.Errorf("after release: %v, %d", err, r.Count())
	}
	r.Hold()
	release() // of the earlier Hold
	short, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.Send(short, message("+4")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("held again: %v", err)
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	r := smstest.New()
	go func() {
		for _, to := range []string{"+1", "+2"} {
			_ = r.Send(context.WithoutCancel(t.Context()), message(to))
		}
	}()
	if m, err := r.Wait(t.Context(), 2); err != nil || m.To != "+2" {
		t.Errorf("%v, %v", m, err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.Wait(short, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"123456 is your code.": "123456", "Your code: 0123": "0123", "12 or 3456": "3456", "111 222": "111", "none": "", "": "",
	} {
		if got := smstest.Token(sms.Message{Text: text}); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	r := smstest.New()
	flaky := smstest.FailFirst(r, 2, errFirst)
	for i, want := range []error{errFirst, errFirst, nil} {
		if err := flaky.Send(t.Context(), message("+1")); !errors.Is(err, want) {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	if err := smstest.AcceptThenFail(r, errSecond).Send(t.Context(), message("+2")); !errors.Is(err, errSecond) || r.Count() != 2 {
		t.Errorf("%v, %d accepted", err, r.Count())
	}
	r.FailAlways(errFirst)
	if err := smstest.AcceptThenFail(r, errSecond).Send(t.Context(), message("+2")); !errors.Is(err, errFirst) {
		t.Errorf("%v", err)
	}
	r.FailAlways(nil)
	begin := time.Now()
	if err := smstest.Delay(r, 20*time.Millisecond).Send(t.Context(), message("+3")); err != nil || time.Since(begin) < 20*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for _, slow := range []sms.Sender{smstest.Hang(), smstest.Delay(r, time.Hour)} {
		if err := slow.Send(short, message("+4")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	}
	defer func() {
		if v := recover(); v != "boom" {
			t.Errorf("recovered %v", v)
		}
	}()
	_ = smstest.Panicking("boom").Send(t.Context(), message("+5"))
}
