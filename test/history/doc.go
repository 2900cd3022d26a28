// Package history records concurrent calls on several nodes, with clocks that differ and with
// faults, and checks the record against a sequential model of the protocol. It is a module of its
// own and contains only tests.
//
// A history consists of calls (requestToken, submitToken, Validated, Redeem, and adding, removing
// and releasing a number) and of the SMS that the provider received. The tests are in
// history_test.go, the calls in workload_test.go, the nodes in cluster_test.go and node_test.go,
// and the provider in provider_test.go. steps_test.go translates a history into steps,
// model_test.go defines which order of steps is legal, and check_test.go looks for one, with
// github.com/anishathalye/porcupine.
package history
