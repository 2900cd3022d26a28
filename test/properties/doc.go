// Package properties contains property tests of the rate limits, the budgets and the guard: random
// schedules of several nodes. rapid shrinks a schedule that fails to a short one.
package properties
