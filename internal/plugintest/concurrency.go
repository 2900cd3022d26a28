package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
)

// concurrencyTests are about simultaneous requests, on one node and on several, and about nodes
// that die.
func concurrencyTests() []test {
	return []test{
		{"IdenticalRequestsAtOnceSendOneSMS", testIdenticalRequestsAtOnceSendOneSMS},
		{"IdenticalRequestsOnTwoNodes", testIdenticalRequestsOnTwoNodes},
		{"WaitersLearnHowTheSendEnded", testWaitersLearnHowTheSendEnded},
		{"AttemptsAtOnce", testAttemptsAtOnce},
		{"CallerHangsUp", testCallerHangsUp},
		{"LeaseOfANodeThatDied", testLeaseOfANodeThatDied},
		{"TokenOfAnEarlierSMS", testTokenOfAnEarlierSMS},
	}
}

// testIdenticalRequestsAtOnceSendOneSMS sends what an impatient client and the retries of a load
// balancer send.
func testIdenticalRequestsAtOnceSendOneSMS(t *testing.T, open opener) {
	n := start(t, open(t))
	answers := identical(200, []*node{n})
	sid := answers[0].text("sid")
	for _, a := range answers {
		if a.status != http.StatusOK || a.text("sid") != sid || sid == "" {
			t.Fatalf("%d %s, want sid %s", a.status, a.body, sid)
		}
	}
	if calls := n.sms.Calls(); len(calls) != 1 {
		t.Errorf("the provider was called %d times", len(calls))
	}
}

// testIdenticalRequestsOnTwoNodes runs two plugins over one store, as two processes do.
func testIdenticalRequestsOnTwoNodes(t *testing.T, open opener) {
	st := open(t)
	recorder := smstest.New()
	slow := smstest.Delay(recorder, 50*time.Millisecond)
	nodes := []*node{startWith(t, st, slow, &logs{}), startWith(t, st, slow, &logs{})}
	answers := identical(60, nodes)
	sid := answers[0].text("sid")
	for _, a := range answers {
		if a.text("sid") != sid || sid == "" {
			t.Fatalf("%d %s, want sid %s", a.status, a.body, sid)
		}
	}
	if calls := recorder.Calls(); len(calls) != 1 {
		t.Errorf("the provider was called %d times", len(calls))
	}
}

// testWaitersLearnHowTheSendEnded makes the provider fail while other requests wait for it: none of
// them may report success for an SMS that was not sent.
func testWaitersLearnHowTheSendEnded(t *testing.T, open opener) {
	const callers = 20
	for _, row := range []struct {
		name    string
		err     error
		status  int
		errcode string
	}{
		{"failed", errors.New("no route"), http.StatusBadGateway, "M_SEND_ERROR"},
		{"rejected", sms.ErrRejected, http.StatusBadRequest, "M_DESTINATION_REJECTED"},
		{"accepted", nil, http.StatusOK, ""},
	} {
		for _, nodes := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d nodes", row.name, nodes), func(t *testing.T) {
				t.Parallel()
				st := &lookers{Store: open(t)}
				recorder := smstest.New()
				recorder.FailAlways(row.err)
				release := recorder.Hold()
				all := make([]*node, nodes)
				for i := range all {
					all[i] = startWith(t, st, recorder, &logs{})
				}
				answers := make(chan []answer, 1)
				go func() { answers <- identical(callers, all) }()
				waitUntil(t, "all have come so far as to look the account up", func() bool { return st.owners.Load() == callers })
				waitUntil(t, "the provider is called", func() bool { return len(recorder.Calls()) == 1 })
				time.Sleep(500 * time.Millisecond) // by now they wait; those on another node know of the claim
				release()
				for _, a := range <-answers {
					expect(t, a, row.status, row.errcode)
				}
				if calls := recorder.Calls(); len(calls) != 1 {
					t.Errorf("the provider was called %d times", len(calls))
				}
			})
		}
	}
}

// identical sends n requests at once, to each node in turn.
func identical(n int, nodes []*node) []answer {
	answers := make([]answer, n)
	together(n, func(i int) { answers[i] = nodes[i%len(nodes)].post(addPath, attempt(1)) })
	return answers
}

// lookers is a store that counts look-ups of accounts; each request begins with one.
type lookers struct {
	Store
	owners atomic.Int64
}

// Owner implements [store.Accounts].
func (l *lookers) Owner(ctx context.Context, msisdn string) (string, error) {
	defer l.owners.Add(1)
	return l.Store.Owner(ctx, msisdn)
}

// testAttemptsAtOnce sends different attempts of one session at once: each greater one may send an
// SMS, none sends two, and all use one session.
func testAttemptsAtOnce(t *testing.T, open opener) {
	n := start(t, open(t))
	answers := make([]answer, 40)
	together(len(answers), func(i int) { answers[i] = n.post(addPath, attempt(i%4)) })
	for _, a := range answers {
		if a.status != http.StatusOK || a.text("sid") != answers[0].text("sid") {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	seen := map[int64]bool{}
	last := int64(-1)
	for _, m := range n.sms.Messages() {
		if seen[m.Attempt] || m.Attempt < last {
			t.Errorf("attempt %d was sent again or late", m.Attempt)
		}
		seen[m.Attempt], last = true, m.Attempt
	}
	if !seen[3] {
		t.Errorf("the greatest attempt was not sent: %v", seen)
	}
}

// testCallerHangsUp makes the client disconnect during the send: the SMS still counts.
func testCallerHangsUp(t *testing.T, open opener) {
	n := start(t, open(t))
	release := n.sms.Hold()
	ctx, hangUp := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+addPath, strings.NewReader(attempt(1)))
		if err != nil {
			t.Error(err)
			return
		}
		if res, err := n.client.Do(req); err == nil {
			_ = res.Body.Close()
		}
	}()
	waitUntil(t, "the provider is asked", func() bool { return len(n.sms.Calls()) == 1 })
	hangUp()
	<-gone
	release()
	waitUntil(t, "the attempt is seen", func() bool {
		s, err := n.sessionOf(t)
		return err == nil && s.Attempt == 1
	})
	n.mustRequest(addPath, attempt(1))
	n.expectTexts(t, 1)
}

// testLeaseOfANodeThatDied leaves the claim of a node that died. The retry waits until the lease
// ends and then sends the same message again.
func testLeaseOfANodeThatDied(t *testing.T, open opener) {
	st := open(t)
	dying := smstest.New()
	accepted := make(chan struct{})
	never := make(chan struct{})
	first := startWith(t, st, sms.Func(func(ctx context.Context, m sms.Message) error {
		_ = dying.Send(ctx, m)
		close(accepted)
		<-never // the process dies between the provider's response and the record
		return errors.New("died")
	}), &logs{}, func(o *threepid.Options) { o.SendTimeout = time.Minute })
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		expect(t, first.post(addPath, attempt(1)), http.StatusBadGateway, "M_SEND_ERROR")
	}()
	<-accepted

	second := start(t, st, func(o *threepid.Options) { o.SendTimeout = time.Minute })
	answered := make(chan answer, 1)
	go func() { answered <- second.post(addPath, attempt(1)) }()
	select {
	case a := <-answered:
		t.Fatalf("responded while another node had the lease: %d %s", a.status, a.body)
	case <-time.After(100 * time.Millisecond):
	}
	second.clock.advance(2 * time.Minute)
	if a := <-answered; a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	one, _ := dying.Last()
	two, _ := second.sms.Last()
	if one.ID != two.ID || one.Text != two.Text {
		t.Errorf("the retry is another message: %+v, %+v", one, two)
	}
	// The node was only slow: its late failure undoes nothing.
	close(never)
	<-gone
	second.mustRequest(addPath, attempt(1))
	second.expectTexts(t, 1)
}

// testTokenOfAnEarlierSMS submits a code that an earlier SMS contained too: it does not prove that
// the SMS in progress arrived, which may still fail.
func testTokenOfAnEarlierSMS(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	token := n.token()
	release := n.sms.Hold()
	n.sms.Fail(errors.New("no route"))
	failed := make(chan answer, 1)
	go func() { failed <- n.post(addPath, attempt(2)) }()
	waitUntil(t, "the provider is asked", func() bool { return len(n.sms.Calls()) == 2 })
	expect(t, n.submit(sid, secret, token), http.StatusOK, "")
	release()
	expect(t, <-failed, http.StatusBadGateway, "M_SEND_ERROR")
	n.mustRequest(addPath, attempt(2))
	n.expectTexts(t, 2)
}
