package limits_test

import (
	"context"
	"fmt"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
)

// A server with users in two countries that sends at most 2,000 SMS an hour.
func Example() {
	opts := threepid.Options{
		Limits: limits.Limits{Global: []limits.Limit{{Burst: 2000, Every: 1800 * time.Millisecond}}},
		Guard:  limits.Guard{OnBlock: func(b limits.Block) { fmt.Println("blocked:", b.Country, b.Range, b.Reason) }},
		Policy: limits.Policy{AllowCountries: []string{"GB", "IE"}},
	}
	_ = opts // pass it to threepid.Register
}

// Paying customers receive an SMS even if the guard blocks their country.
func ExamplePolicy_approve() {
	paying := func(userID string) bool { return userID == "alice" }
	policy := limits.Policy{
		Approve: func(_ context.Context, r limits.ApprovalRequest) (limits.Approval, error) {
			switch {
			case paying(r.Header.Get("X-User")):
				return limits.Trusted, nil
			case r.Country == "GB":
				return limits.Approved, nil
			}
			return limits.Approved, fmt.Errorf("only paying customers abroad: %w", limits.ErrDenied)
		},
	}
	_, err := policy.Approve(context.Background(), limits.ApprovalRequest{Country: "FR"})
	fmt.Println(err)
	// Output: only paying customers abroad: threepid: denied by the host
}
