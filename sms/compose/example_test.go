package compose_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"example.com/threepid/sms"
	"example.com/threepid/sms/compose"
)

// Two providers, each as a fallback for the other, and one for a country of its own: the recipe in
// docs/RECIPES.md.
func Example() {
	texts := func(name string, err error) sms.Sender {
		return sms.Func(func(_ context.Context, m sms.Message) error {
			fmt.Printf("%s to %s from %q\n", name, m.Country, m.From)
			return err
		})
	}
	twilioSender, vonageSender, indianSender := texts("twilio", errors.New("down")), texts("vonage", nil), texts("indian", nil)

	both, err := compose.NewFailover(compose.FailoverOptions{Logger: slog.New(slog.DiscardHandler)},
		compose.Provider{Name: "twilio", Sender: compose.Throttle(twilioSender, compose.ThrottleOptions{PerSecond: 10})},
		compose.Provider{Name: "vonage", Sender: compose.WithSenderIDs(vonageSender, map[string]string{"US": "12025550123"})},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	sender, err := compose.NewRoute(both, compose.Rule{Countries: []string{"IN"}, Sender: indianSender})
	if err != nil {
		fmt.Println(err)
		return
	}

	for _, country := range []string{"US", "IN"} {
		if err := sender.Send(context.Background(), sms.Message{To: "+", Country: country, Attempt: 1}); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// twilio to US from ""
	// vonage to US from "12025550123"
	// indian to IN from ""
}
