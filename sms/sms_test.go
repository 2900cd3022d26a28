package sms_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"example.com/threepid/sms"
)

func ExampleFunc() {
	var sender sms.Sender = sms.Func(func(_ context.Context, m sms.Message) error {
		if m.Country != "GB" {
			return fmt.Errorf("no route to %s: %w", m.Country, sms.ErrRejected)
		}
		fmt.Println(m.To, m.Text)
		return nil
	})
	_ = sender.Send(context.Background(), sms.Message{To: "+447700900001", Text: "123456 is your Example code.", Country: "GB"})
	err := sender.Send(context.Background(), sms.Message{To: "+33199000001", Country: "FR"})
	fmt.Println(errors.Is(err, sms.ErrRejected))
	// Output:
	// +447700900001 123456 is your Example code.
	// true
}

func TestFuncPassesEverything(t *testing.T) {
	t.Parallel()
	type key struct{}
	want := sms.Message{ID: "id", To: "+447700900001", Text: "123456", Country: "GB", Attempt: 3}
	errFailed := errors.New("failed")
	sender := sms.Func(func(ctx context.Context, m sms.Message) error {
		if ctx.Value(key{}) != "value" || m != want {
			t.Errorf("context %v, message %v", ctx, m)
		}
		return errFailed
	})
	if err := sender.Send(context.WithValue(t.Context(), key{}, "value"), want); !errors.Is(err, errFailed) {
		t.Errorf("error %v", err)
	}
}
