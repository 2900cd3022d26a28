package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store/storetest"
)

// eventTests are about what an Options.Observer receives.
func eventTests() []test {
	return []test{
		{"EventsOfAValidation", testEventsOfAValidation},
		{"EventsOfRefusals", testEventsOfRefusals},
		{"EventsOfOutcomes", testEventsOfOutcomes},
		{"EventsOfAccounts", testEventsOfAccounts},
		{"EventsOfTheGuard", testEventsOfTheGuard},
		{"EventsOfAFailingStore", testEventsOfAFailingStore},
		{"EventsHaveTheIDOfTheirRequest", testEventsHaveTheIDOfTheirRequest},
		{"ObserverThatBlocks", testObserverThatBlocks},
		{"ObserverThatPanics", testObserverThatPanics},
	}
}

// heard is an Observer that keeps all events.
type heard struct {
	mu     sync.Mutex
	events []observe.Event
}

func (h *heard) Observe(_ context.Context, e observe.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// requests returns how many Request events there were. A Request is a request's last event.
func (h *heard) requests() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if _, ok := e.(observe.Request); ok {
			n++
		}
	}
	return n
}

func observed(h *heard) func(*threepid.Options) {
	return func(o *threepid.Options) { o.Observer = h }
}

// all closes the node, which delivers events that wait, and returns the events of one type.
func all[E observe.Event](t *testing.T, n *node, h *heard) []E {
	t.Helper()
	if err := n.plugin.Close(); err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var list []E
	for _, e := range h.events {
		if of, ok := e.(E); ok {
			list = append(list, of)
		}
	}
	return list
}

func testEventsOfAValidation(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), observed(&h))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	n.mustRequest(addPath, attempt(1)) // a retry: no SMS
	n.clock.advance(42 * time.Second)
	expect(t, n.submit(sid, secret, wrong(n.token())), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	sent := all[observe.SMS](t, n, &h)
	if len(sent) != 1 || sent[0].Country != "GB" || sent[0].Purpose != "add" || sent[0].Outcome != observe.Accepted || sent[0].Segments != 1 ||
		sent[0].Provider != "smstest" || sent[0].Number != "+44770090****" || sent[0].Latency <= 0 || !sent[0].At.Equal(n.clock.Now().Add(-42*time.Second)) {
		t.Errorf("SMS: %+v", sent)
	}
	codes := all[observe.Code](t, n, &h)
	if len(codes) != 2 || codes[0].Right || !codes[1].Right || codes[1].Country != "GB" || codes[1].Purpose != "add" {
		t.Errorf("codes: %+v", codes)
	}
	validations := all[observe.Validation](t, n, &h)
	if len(validations) != 1 || validations[0].TimeToValidate != 42*time.Second || validations[0].Country != "GB" || validations[0].Purpose != "add" {
		t.Errorf("validations: %+v", validations)
	}
	requests := all[observe.Request](t, n, &h)
	if len(requests) != 4 || requests[0].Endpoint != string(threepid.EndpointRequestTokenAdd) || requests[0].Method != http.MethodPost ||
		requests[0].Status != http.StatusOK || requests[0].ErrCode != "" || requests[0].Duration <= 0 ||
		requests[2].Endpoint != string(threepid.EndpointSubmitToken) || requests[2].ErrCode != "M_TOKEN_INCORRECT" || requests[2].Status != http.StatusBadRequest {
		t.Errorf("requests: %+v", requests)
	}
	if refusals := all[observe.Refusal](t, n, &h); len(refusals) != 0 {
		t.Errorf("refusals: %+v", refusals)
	}
	units := all[observe.Unit](t, n, &h)
	if !slices.ContainsFunc(units, func(u observe.Unit) bool { return u.Op == "view" && u.Duration > 0 && !u.Failed }) ||
		!slices.ContainsFunc(units, func(u observe.Unit) bool { return u.Op == "update" && u.Duration > 0 && !u.Failed }) {
		t.Errorf("units: %+v", units)
	}
}

// testEventsOfRefusals has a row for each reason.
func testEventsOfRefusals(t *testing.T, open opener) {
	one := []limits.Limit{{Burst: 1, Every: time.Hour}}
	twice := func(n *node) {
		n.mustRequest(addPath, attempt(1))
		n.post(addPath, attempt(2))
	}
	for reason, row := range map[string]struct {
		change func(*threepid.Options)
		do     func(n *node)
	}{
		"bad input":              {nil, func(n *node) { n.post(addPath, request(map[string]any{"phone_number": "12"})) }},
		"bad input, no JSON":     {nil, func(n *node) { n.post(addPath, "{") }},
		"bad input, submitToken": {nil, func(n *node) { n.post(subPath, "{}") }},
		"policy":                 {func(o *threepid.Options) { o.Policy.DenyCountries = []string{"GB"} }, func(n *node) { n.post(addPath, attempt(1)) }},
		"host": {func(o *threepid.Options) {
			o.Policy.Approve = func(context.Context, limits.ApprovalRequest) (limits.Approval, error) { return 0, limits.ErrDenied }
		}, func(n *node) { n.post(addPath, attempt(1)) }},
		"not found":       {nil, func(n *node) { n.post(pwdPath, attempt(1)) }},
		"another purpose": {nil, func(n *node) { n.mustRequest(addPath, attempt(1)); n.post(regPath, attempt(1)) }},
		"unknown session": {nil, func(n *node) { n.submit("unknown", secret, "123456") }},
		"limit: number":   {func(o *threepid.Options) { o.Limits = limits.Limits{PerNumber: one, Reserve: []limits.Limit{}} }, twice},
		"limit: client":   {func(o *threepid.Options) { o.Limits = limits.Limits{PerClient: one, PerNumber: []limits.Limit{}} }, twice},
		"limit: look-ups": {func(o *threepid.Options) { o.Limits = limits.Limits{LookUps: one} }, twice},
		"server not trusted": {func(o *threepid.Options) { o.Delegate = trusted{&service{}} }, func(n *node) {
			n.post(addPath, request(map[string]any{"id_server": "evil.example", "id_access_token": "t"}))
		}},
	} {
		t.Run(reason, func(t *testing.T) {
			var h heard
			n := start(t, open(t), observed(&h), func(o *threepid.Options) {
				if row.change != nil {
					row.change(o)
				}
			})
			row.do(n)
			refusals := all[observe.Refusal](t, n, &h)
			if len(refusals) != 1 || refusals[0].Reason != strings.Split(reason, ",")[0] {
				t.Errorf("refusals: %+v", refusals)
			}
		})
	}
}

// testEventsOfOutcomes makes the sender fail in each way, and report its provider and message ID.
func testEventsOfOutcomes(t *testing.T, open opener) {
	for outcome, err := range map[observe.Outcome]error{
		observe.Accepted: nil, observe.Rejected: sms.ErrRejected, observe.Failed: sms.ErrMisconfigured, observe.Unknown: sms.ErrUncertain,
	} {
		t.Run(string(outcome), func(t *testing.T) {
			var h heard
			sender := sms.Func(func(ctx context.Context, _ sms.Message) error {
				sms.Report(ctx, sms.Result{Provider: "acme", MessageID: "m-1"})
				sms.Report(ctx, sms.Result{Provider: "backup"}) // a sender that wraps it
				return err
			})
			n := startWith(t, open(t), sender, &logs{}, observed(&h))
			n.post(addPath, attempt(1))
			sent := all[observe.SMS](t, n, &h)
			if len(sent) != 1 || sent[0].Outcome != outcome || sent[0].Provider != "backup" || sent[0].MessageID != "m-1" {
				t.Errorf("SMS: %+v", sent)
			}
			if log := n.logs.String(); !strings.Contains(log, "provider=backup") || !strings.Contains(log, "message_id=m-1") {
				t.Errorf("log: %s", log)
			}
		})
	}
}

func testEventsOfAccounts(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), authenticated, observed(&h))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	if err := n.plugin.AddNumber(t.Context(), "alice", sid, secret); err != nil {
		t.Fatal(err)
	}
	if err := n.plugin.RemoveNumber(t.Context(), "alice", msisdn); err != nil {
		t.Fatal(err)
	}
	n.associate(t, "bob", msisdn)
	if err := n.plugin.ReleaseNumber(t.Context(), msisdn); err != nil {
		t.Fatal(err)
	}
	if _, err := n.plugin.Unblock(t.Context(), msisdn); err != nil {
		t.Fatal(err)
	}
	var changes []string
	for _, e := range all[observe.Number](t, n, &h) {
		changes = append(changes, e.Change+" "+e.Country)
	}
	if want := []string{"added GB", "removed GB", "released GB"}; !slices.Equal(changes, want) {
		t.Errorf("changes: %q, want %q", changes, want)
	}
	if unblocked := all[observe.Unblock](t, n, &h); len(unblocked) != 1 || unblocked[0].Subject != "+44770090****" {
		t.Errorf("unblocked: %+v", unblocked)
	}
}

func testEventsOfTheGuard(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), observed(&h), func(o *threepid.Options) {
		o.Guard = limits.Guard{}
		var clients atomic.Int64
		o.ClientKey = func(*gin.Context) string { return fmt.Sprint("client", clients.Add(1)) }
	})
	for i := range 12 { // neighbouring numbers
		n.clock.advance(time.Second)
		n.post(addPath, request(map[string]any{"client_secret": fmt.Sprint("s", i), "phone_number": fmt.Sprintf("0740012340%d", i%10)}))
	}
	blocks := all[observe.Block](t, n, &h)
	if len(blocks) != 1 || blocks[0].Kind != "range" || blocks[0].Subject != "+44740012****" || blocks[0].Reason == "" || blocks[0].Count != 1 ||
		!blocks[0].Until.After(n.clock.Now()) {
		t.Errorf("blocks: %+v", blocks)
	}
	refusals := all[observe.Refusal](t, n, &h)
	if len(refusals) == 0 || refusals[0].Reason != "guard: range" || refusals[0].Country != "GB" {
		t.Errorf("refusals: %+v", refusals)
	}
}

func testEventsOfAFailingStore(t *testing.T, open opener) {
	var h heard
	inner := open(t)
	failing := storetest.Failing(inner, func(op string) error {
		if op == "update" {
			return errors.New("disk on fire")
		}
		return nil
	})
	n := start(t, both{failing, inner}, observed(&h))
	expect(t, n.post(addPath, attempt(1)), http.StatusInternalServerError, "M_UNKNOWN")
	units := all[observe.Unit](t, n, &h)
	if !slices.ContainsFunc(units, func(u observe.Unit) bool { return u.Op == "update" && u.Failed }) ||
		slices.ContainsFunc(units, func(u observe.Unit) bool { return u.Op == "view" && u.Failed }) {
		t.Errorf("units: %+v", units)
	}
	requests := all[observe.Request](t, n, &h)
	if len(requests) != 1 || requests[0].Status != http.StatusInternalServerError || requests[0].ErrCode != "M_UNKNOWN" {
		t.Errorf("requests: %+v", requests)
	}
}

// testEventsHaveTheIDOfTheirRequest expects one ID in the events of a request, in its log records
// and in the sender's context, and another ID in the next request's.
func testEventsHaveTheIDOfTheirRequest(t *testing.T, open opener) {
	var h heard
	ids := make(chan string, 2)
	sender := sms.Func(func(ctx context.Context, _ sms.Message) error {
		ids <- observe.ID(ctx)
		return nil
	})
	n := startWith(t, open(t), sender, &logs{}, observed(&h))
	n.mustRequest(addPath, attempt(1))
	n.mustRequest(addPath, attempt(2))
	first, second := <-ids, <-ids
	if first == "" || first == second {
		t.Fatalf("IDs %q and %q", first, second)
	}
	sent, requests := all[observe.SMS](t, n, &h), all[observe.Request](t, n, &h)
	if sent[0].ID != first || requests[0].ID != first || sent[1].ID != second || requests[1].ID != second {
		t.Errorf("SMS %+v, requests %+v, want the IDs %q and %q", sent, requests, first, second)
	}
	if !strings.Contains(n.logs.String(), "request="+first) {
		t.Errorf("the log has no %q: %s", first, n.logs)
	}
	units := all[observe.Unit](t, n, &h)
	if !slices.ContainsFunc(units, func(u observe.Unit) bool { return u.ID == first }) {
		t.Errorf("no unit of the request: %+v", units)
	}
}

// testObserverThatBlocks makes an Observer hang: requests continue, Close returns, and events that
// do not fit into the queue are counted.
func testObserverThatBlocks(t *testing.T, open opener) {
	hang := make(chan struct{})
	release := sync.OnceFunc(func() { close(hang) })
	t.Cleanup(release)
	var h heard
	n := start(t, open(t), func(o *threepid.Options) {
		o.Observer = observe.Func(func(ctx context.Context, e observe.Event) {
			<-hang
			h.Observe(ctx, e)
		})
	})
	const calls = 5000 // more than the queue holds
	for range calls {
		if _, err := n.plugin.RequestToken(t.Context(), threepid.TokenRequest{Purpose: threepid.PurposeAdd}); err == nil {
			t.Fatal("a request without a client_secret succeeded")
		}
	}
	release()
	waitUntil(t, "the queue is empty", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return slices.ContainsFunc(h.events, func(e observe.Event) bool { _, ok := e.(observe.Dropped); return ok })
	})
	total := 0
	for _, e := range all[observe.Dropped](t, n, &h) {
		total += e.Count
	}
	received := len(all[observe.Refusal](t, n, &h))
	const reports = 1 // of blocks, which may also have been dropped
	if total == 0 || total+received < calls || total+received > calls+reports {
		t.Errorf("%d dropped and %d received of %d", total, received, calls)
	}

	stuck := start(t, open(t), func(o *threepid.Options) {
		o.Observer = observe.Func(func(context.Context, observe.Event) { select {} })
	})
	stuck.mustRequest(addPath, attempt(1))
	began := time.Now()
	if err := stuck.plugin.Close(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("Close: %v, after %v", err, time.Since(began))
	}
}

func testObserverThatPanics(t *testing.T, open opener) {
	var h heard
	n := start(t, open(t), func(o *threepid.Options) {
		o.Observer = observe.All(&h, observe.Func(func(context.Context, observe.Event) { panic("broken") }))
	})
	n.mustRequest(addPath, attempt(1))
	n.mustRequest(addPath, attempt(2))
	waitUntil(t, "the events of both requests arrive", func() bool { return h.requests() == 2 })
	n.clock.advance(time.Minute)
	n.post(addPath, "{")
	if sent := all[observe.SMS](t, n, &h); len(sent) != 2 {
		t.Errorf("SMS: %+v", sent)
	}
	// The first, and one a minute later that counts those in between.
	if log := n.logs.String(); strings.Count(log, "Options.Observer panicked") != 2 || !strings.Contains(log, "panics=1\n") {
		t.Errorf("the log has not two panics: %s", log)
	}
}
