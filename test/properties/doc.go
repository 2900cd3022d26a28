// Package properties has property tests of the rate limits, the budgets and the guard:
// random schedules of several nodes, whose failures rapid shrinks to short ones.
package properties
