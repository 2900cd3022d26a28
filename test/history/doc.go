// Package history records what several nodes do at once, with clocks that differ
// and with faults, and checks the record against a sequential model of the
// protocol. It is a module of its own and has nothing but tests.
//
// A history consists of calls (requestToken, submitToken, Validated, Redeem, adding
// a number, removing and releasing one) and of the SMS that the provider was handed.
// history_test.go has the tests, workload_test.go the calls, cluster_test.go and
// node_test.go the nodes, provider_test.go the provider. steps_test.go translates a
// history into steps, model_test.go says which order of steps is legal, and
// check_test.go looks for one, with github.com/anishathalye/porcupine.
package history
