package history_test

import (
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// at returns a call between two times, in milliseconds.
func at(begin, end int, c call) *call {
	c.begin, c.end = time.Duration(begin)*time.Millisecond, time.Duration(end)*time.Millisecond
	if c.result == "" {
		c.result = ok
	}
	return &c
}

// asked returns a requestToken call and its SMS.
func asked(begin int, attempt int, code string) []*call {
	return []*call{
		at(begin, begin+9, call{op: requestToken, attempt: attempt}),
		at(begin+4, begin+5, call{op: sendSMS, attempt: attempt, code: code}),
	}
}

// proved returns the calls of a complete validation.
func proved(code string) []*call {
	return append(asked(0, 1, code), at(10, 11, call{op: submitToken, code: code}))
}

// TestModel contains, for each guarantee, a history that breaks it and one that keeps it.
func TestModel(t *testing.T) {
	t.Parallel()
	const leaseMS = int(lease / time.Millisecond)
	killed := []fault{{node: 0, kind: "killed", begin: 6 * time.Millisecond, end: never}}
	dead := []*call{
		at(0, 8, call{op: requestToken, attempt: 1, result: unknown}),
		at(4, 5, call{op: sendSMS, attempt: 1, code: "111111"}),
	}
	wrong := func(from, to int) (calls []*call) {
		for i := from; i < to; i++ {
			calls = append(calls, at(20+i*10, 29+i*10, call{op: submitToken, code: "222222", result: wrongCode}))
		}
		return calls
	}
	released := at(20, 29, call{op: release, result: noAccount})
	for _, c := range []struct {
		name   string
		faults []fault
		calls  []*call
		legal  bool
	}{
		{"an attempt has one SMS", nil, append(asked(0, 1, "111111"), at(10, 11, call{op: requestToken, attempt: 1})), true},
		{"an attempt has two", nil, append(asked(0, 1, "111111"), asked(20, 1, "111111")...), false},
		{"two at once", nil, append(asked(0, 1, "111111"), asked(1, 1, "111111")...), false},
		{"a smaller attempt is sent", nil, append(asked(0, 2, "111111"), asked(20, 1, "111111")...), false},
		{"a greater one is", nil, append(asked(0, 1, "111111"), asked(20, 2, "111111")...), true},
		{"200 without an SMS", nil, []*call{at(0, 9, call{op: requestToken, attempt: 1})}, false},
		{"200 before the SMS", nil, []*call{
			at(0, 9, call{op: requestToken, attempt: 1}), at(10, 11, call{op: sendSMS, attempt: 1, code: "111111"}),
		}, false},
		{"the provider failed", nil, append([]*call{
			at(0, 9, call{op: requestToken, attempt: 1, result: notSent}), at(4, 5, call{op: sendSMS, attempt: 1, code: "111111", result: notSent}),
		}, asked(20, 1, "111111")...), true},
		{"the provider did not say that it accepted", nil, append([]*call{
			at(0, 9, call{op: requestToken, attempt: 1, result: notSent}),
			at(4, 5, call{op: sendSMS, attempt: 1, code: "111111", lost: true, lostAt: 5 * time.Millisecond}),
		}, asked(20, 1, "111111")...), true},
		{"the node is killed, and the lease is over", killed, append(slices.Clone(dead), onNode(1, asked(leaseMS+1, 1, "111111"))...), true},
		{"the lease is over only by the clock of a node that sent in between", killed, slices.Concat(
			later(dead), onNode(2, asked(leaseMS-900, 1, "111111")), onNode(1, asked(leaseMS-800, 2, "111111"))), true},
		{"no clock has the lease over", killed, slices.Concat(
			later(dead), onNode(1, asked(leaseMS-900, 1, "111111")), onNode(1, asked(leaseMS-800, 2, "111111"))), false},
		{"the node is killed, and the lease is not over", killed, append(slices.Clone(dead), onNode(1, asked(leaseMS-100, 1, "111111"))...), false},
		{"the lease is over, and there was no fault", nil, append(slices.Clone(dead), onNode(1, asked(leaseMS+1, 1, "111111"))...), false},
		{"the node is killed after it said 200", killed, append(asked(0, 1, "111111"), onNode(1, asked(leaseMS+1, 1, "111111"))...), false},
		{"another code is sent again", killed, append(slices.Clone(dead), onNode(1, asked(leaseMS+1, 1, "333333"))...), false},
		{"the same code again within its life", nil, append(asked(0, 1, "111111"), asked(20, 2, "333333")...), false},

		{"five wrong codes", nil, append(asked(0, 1, "111111"), wrong(0, 5)...), true},
		{"six wrong codes", nil, append(asked(0, 1, "111111"), wrong(0, 6)...), false},
		{"the right code after five", nil, slices.Concat(asked(0, 1, "111111"), wrong(0, 5), []*call{at(90, 91, call{op: submitToken, code: "111111"})}), false},
		{"a new code after five", nil, slices.Concat(asked(0, 1, "111111"), wrong(0, 5), asked(100, 2, "333333"), wrong(10, 15)), true},
		{"the same code after five", nil, slices.Concat(asked(0, 1, "111111"), wrong(0, 5), asked(100, 2, "111111")), false},
		{"four wrong codes, and the right one is counted twice", nil, slices.Concat(asked(0, 1, "111111"), wrong(0, 4), []*call{
			at(90, 91, call{op: submitToken, code: "111111", result: expired}),
		}, asked(100, 2, "333333")), true},
		{"the right code has expired, and none was wrong", nil, append(asked(0, 1, "111111"),
			at(20, 21, call{op: submitToken, code: "111111", result: expired})), false},
		{"a wrong code is right", nil, append(asked(0, 1, "111111"), at(20, 21, call{op: submitToken, code: "222222"})), false},
		{"the right code is wrong", nil, append(asked(0, 1, "111111"), at(20, 21, call{op: submitToken, code: "111111", result: wrongCode})), false},

		{"released, then looked up", nil, append(proved("111111"), released, at(30, 31, call{op: validated, result: notValidated})), true},
		{"released, and the look-up succeeds", nil, append(proved("111111"), released, at(30, 31, call{op: validated})), false},
		{"released, and redeemed", nil, append(proved("111111"), released, at(30, 31, call{op: redeem})), false},
		{"redeemed while it is released", nil, append(proved("111111"), released, at(28, 31, call{op: redeem})), true},
		{"released, and added", nil, append(proved("111111"), released, at(30, 31, call{op: addNumber, user: 1})), false},
		{"released, and the code is right", nil, append(asked(0, 1, "111111"), released, at(30, 31, call{op: submitToken, code: "111111"})), false},
		{"released, and the code is sent again", nil, slices.Concat(asked(0, 1, "111111"), []*call{released}, asked(30, 2, "111111")), false},
		{"released while it is added, and then on the account", nil, append(proved("111111"), released,
			at(15, 31, call{op: addNumber, user: 1}), at(40, 41, call{op: ownerOf, user: 1})), false},
		{"removed by another user", nil, append(proved("111111"), at(20, 21, call{op: removeNumber, user: 2}), at(30, 31, call{op: validated})), true},

		{"redeemed twice", nil, append(proved("111111"), at(20, 29, call{op: redeem}), at(20, 29, call{op: redeem})), false},
		{"redeemed, and the other call finds that", nil, append(proved("111111"),
			at(20, 29, call{op: redeem}), at(20, 29, call{op: redeem, result: noSession})), true},
		{"redeemed and added", nil, append(proved("111111"), at(20, 29, call{op: redeem}), at(20, 29, call{op: addNumber, user: 1})), false},
		{"redeemed perhaps, and added", nil, append(proved("111111"),
			at(20, 29, call{op: redeem, result: unknown}), at(30, 39, call{op: addNumber, user: 1})), true},
		{"added to two accounts", nil, append(proved("111111"),
			at(20, 29, call{op: addNumber, user: 1}), at(20, 29, call{op: addNumber, user: 2})), false},
		{"two users own a number", nil, slices.Concat(proved("111111"), inSession(1, proved("444444")), []*call{
			at(20, 29, call{op: addNumber, user: 1}), at(20, 29, call{op: addNumber, session: 1, user: 2}),
		}), false},
		{"added while a newer code is submitted, which is redeemed", nil, slices.Concat(proved("111111"), []*call{
			at(20, 60, call{op: addNumber, user: 1}),
		}, asked(25, 2, "333333"), []*call{
			at(40, 41, call{op: submitToken, code: "333333"}), at(55, 56, call{op: requestToken, attempt: 3, result: notInUse}),
			at(61, 62, call{op: redeem}), at(70, 71, call{op: ownerOf, user: 1}),
		}), true},
		{"released while a newer code is submitted, and added after that", nil, slices.Concat(proved("111111"), []*call{
			at(20, 60, call{op: addNumber, user: 1}),
		}, asked(25, 2, "333333"), []*call{
			at(40, 41, call{op: submitToken, code: "333333"}), at(50, 51, call{op: release, result: noAccount}),
			at(70, 71, call{op: ownerOf, user: 1}),
		}), false},
		{"released while two add it, one of which takes it off again", nil, append(proved("111111"),
			at(20, 40, call{op: addNumber, user: 1}), at(20, 80, call{op: addNumber, user: 1, result: refused}),
			at(50, 70, call{op: release, result: noAccount}), at(90, 91, call{op: ownerOf})), true},
		{"a release that starts again voids a code that was sent in the meantime", nil, slices.Concat(proved("111111"), []*call{
			at(20, 40, call{op: addNumber, user: 1}), at(20, 45, call{op: addNumber, user: 1, result: refused}),
			at(30, 80, call{op: release, result: noAccount}), at(50, 51, call{op: requestToken, attempt: 9, result: notInUse}),
		}, asked(55, 2, "333333"), []*call{at(90, 91, call{op: submitToken, code: "222222", result: expired})}), true},
		{"a release voids a code that is sent after it", nil, slices.Concat(proved("111111"), []*call{
			at(20, 30, call{op: release, result: noAccount}),
		}, asked(55, 2, "333333"), []*call{at(90, 91, call{op: submitToken, code: "222222", result: expired})}), false},
		{"added again by the same user", nil, append(proved("111111"),
			at(20, 29, call{op: addNumber, user: 1}), at(20, 29, call{op: addNumber, user: 1}), at(40, 41, call{op: ownerOf, user: 1})), true},
		{"added and lost", nil, append(proved("111111"), at(20, 29, call{op: addNumber, user: 1}), at(40, 41, call{op: ownerOf})), false},
		{"validated and lost", nil, append(proved("111111"), at(20, 29, call{op: validated, result: notValidated})), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory()
			h.offsets = func(node int) time.Duration { return time.Duration(node/2) * time.Second } // node 2 is ahead
			h.calls, h.faults = c.calls, c.faults
			steps := h.stepsOf(c.calls)
			if got := search(steps); (got == porcupine.Ok) != c.legal {
				t.Errorf("the checker says %s:\n%s", got, violation{0, steps}.explain())
			}
		})
	}
}

func onNode(id int, calls []*call) []*call {
	for _, c := range calls {
		c.node = id
	}
	return calls
}

func inSession(s int, calls []*call) []*call {
	for _, c := range calls {
		c.session = s
	}
	return calls
}

// later returns the calls for the next attempt.
func later(calls []*call) []*call {
	var next []*call
	for _, c := range calls {
		changed := *c
		changed.attempt++
		next = append(next, &changed)
	}
	return next
}
