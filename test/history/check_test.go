package history_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Most numbers take milliseconds.
const (
	quickTimeout = 300 * time.Millisecond // for one try
	checkTimeout = 10 * time.Second
)

// verdict is the result of checking a history.
type verdict struct {
	numbers, calls, steps int
	repetitions           int // repeated SMS that the documents allow
	illegal               []violation
	undecided             []violation // not decided in time
}

// violation is a number whose calls fit no sequential order.
type violation struct {
	number int
	steps  []porcupine.Operation
}

// check looks for a sequential order of each number's steps.
func (h *history) check() verdict {
	numbers := h.byNumber()
	v := verdict{numbers: len(numbers)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	free := make(chan struct{}, 2)
	for _, number := range slices.Sorted(maps.Keys(numbers)) {
		steps := h.stepsOf(numbers[number])
		v.calls += len(numbers[number])
		v.steps += len(steps)
		for _, s := range steps {
			if s.Input.(step).excused {
				v.repetitions++
			}
		}
		free <- struct{}{}
		wg.Go(func() {
			defer func() { <-free }()
			result := search(steps)
			mu.Lock()
			defer mu.Unlock()
			switch result {
			case porcupine.Illegal:
				v.illegal = append(v.illegal, violation{number, steps})
			case porcupine.Unknown:
				v.undecided = append(v.undecided, violation{number, steps})
			case porcupine.Ok:
			}
		})
	}
	wg.Wait()
	return v
}

// search looks for a sequential order. Two things make the search long and rarely matter: many
// simultaneous steps, and steps that may not have happened. So it first looks for an order in which
// each step happens late in its interval and unknown calls had no effect. Then it adds the unknown
// calls one by one, and finally it searches everything. An order that is found early is valid: it
// obeys narrower intervals than required, and calls that may have happened can be placed at the
// end, where nothing observes them.
func search(steps []porcupine.Operation) porcupine.CheckResult {
	var sure, maybe []porcupine.Operation
	byCall := map[*call][]porcupine.Operation{}
	for _, s := range steps {
		switch in := s.Input.(step); {
		case !in.maybe:
			sure = append(sure, s)
		case s.Return != int64(never):
			maybe = append(maybe, s)
		default:
			byCall[in.call] = append(byCall[in.call], s)
		}
	}
	sets := [][]porcupine.Operation{sure, slices.Concat(sure, maybe)}
	unknown := slices.Collect(maps.Values(byCall))
	for i := range unknown {
		sets = append(sets, slices.Concat(sure, maybe, unknown[i]))
		for j := range i {
			sets = append(sets, slices.Concat(sure, maybe, unknown[i], unknown[j]))
		}
	}
	for _, set := range sets {
		for _, early := range []int64{80, 40, 0} {
			if porcupine.CheckOperationsTimeout(model(), narrowed(set, early), quickTimeout) == porcupine.Ok {
				return porcupine.Ok
			}
		}
	}
	return porcupine.CheckOperationsTimeout(model(), steps, checkTimeout)
}

// narrowed removes the first percentage of each interval that has an end.
func narrowed(steps []porcupine.Operation, percent int64) []porcupine.Operation {
	narrow := slices.Clone(steps)
	for i := range narrow {
		if s := &narrow[i]; s.Return != int64(never) {
			s.Call += (s.Return - s.Call) * percent / 100
		}
	}
	return narrow
}

// expectLegal fails the test if the history has no sequential order, and explains why.
func (h *history) expectLegal(t *testing.T) {
	t.Helper()
	begin := time.Now()
	v := h.check()
	t.Logf("%d calls and SMS of %d numbers, %d steps, %d SMS repeated as documented; checked in %v\n%s",
		v.calls, v.numbers, v.steps, v.repetitions, time.Since(begin).Round(time.Millisecond), h.summary())
	for _, bad := range v.illegal {
		t.Errorf("number %d: no sequential order explains this:\n%s", bad.number, bad.explain())
	}
	for _, open := range v.undecided {
		t.Logf("number %d: not checked in time:\n%s", open.number, open.explain())
	}
	// Not finding an order in time does not prove that there is none.
	if 20*len(v.undecided) > v.numbers {
		t.Errorf("%d of %d numbers could not be checked in time", len(v.undecided), v.numbers)
	}
	h.expectOneSID(t)
}

// summary counts the calls by result, to show what the history exercised.
func (h *history) summary() string {
	count := map[string]int{}
	for _, c := range h.calls {
		count[fmt.Sprintf("%s: %s", c.op, c.result)]++
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&out, "%6d %s\n", count[name], name)
	}
	for _, f := range h.faults {
		fmt.Fprintf(&out, "node %d %s at %.1fs\n", f.node, f.kind, f.begin.Seconds())
	}
	return out.String()
}

// explain prints the steps, marks those that fit no order, and draws them.
func (v violation) explain() string {
	_, info := porcupine.CheckOperationsVerbose(model(), v.steps, checkTimeout)
	fits := map[int]bool{}
	for _, partial := range info.PartialLinearizations()[0] {
		if len(partial) > len(fits) {
			fits = map[int]bool{}
			for _, i := range partial {
				fits[i] = true
			}
		}
	}
	order := make([]int, len(v.steps))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(v.steps[a].Call, v.steps[b].Call) })
	var out strings.Builder
	fmt.Fprintln(&out, "steps (! begins those beyond the longest legal order), and the call or SMS of each:")
	for _, i := range order {
		mark := " "
		if !fits[i] {
			mark = "!"
		}
		s := v.steps[i].Input.(step)
		fmt.Fprintf(&out, "%s %-40s %s\n", mark, s, s.call)
	}
	if path, err := draw(info); err != nil {
		fmt.Fprintln(&out, "no drawing:", err)
	} else {
		fmt.Fprintln(&out, "drawn in", path)
	}
	return out.String()
}

// draw writes porcupine's page. The file remains after the test.
func draw(info porcupine.LinearizationInfo) (string, error) {
	file, err := os.CreateTemp("", "threepid-history-*.html")
	if err != nil {
		return "", err
	}
	err = porcupine.Visualize(model(), info, file)
	return file.Name(), errors.Join(err, file.Close())
}

// expectOneSID checks that all responses for a session have one sid.
func (h *history) expectOneSID(t *testing.T) {
	t.Helper()
	type key struct{ number, session int }
	sids := map[key]string{}
	for number, calls := range h.byNumber() {
		for _, c := range calls {
			k := key{number, c.session}
			if c.sid == "" {
				continue
			}
			if known := cmp.Or(sids[k], c.sid); known != c.sid {
				t.Errorf("number %d, session %d: sid %q and %q", number, c.session, known, c.sid)
			}
			sids[k] = c.sid
		}
	}
}
