package smstest_test

import (
	"context"
	"errors"
	"fmt"

	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
)

func ExampleRecorder() {
	ctx := context.Background()
	texts := smstest.New()
	texts.Fail(errors.New("the provider is down"))

	m := sms.Message{To: "+447700900001", Text: "123456 is your Example code."}
	fmt.Println(texts.Send(ctx, m))
	fmt.Println(texts.Send(ctx, m))

	got, _ := texts.Wait(ctx, 1)
	fmt.Println(smstest.Token(got), texts.Count(), "of", len(texts.Calls()))
	// Output:
	// the provider is down
	// <nil>
	// 123456 1 of 2
}

func ExampleAcceptThenFail() {
	texts := smstest.New()
	lost := smstest.AcceptThenFail(texts, errors.New("the answer was lost"))
	fmt.Println(lost.Send(context.Background(), sms.Message{To: "+447700900001"}), texts.Count())
	// Output: the answer was lost 1
}
