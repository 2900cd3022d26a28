package plugintest

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/store/storetest"
)

// lookUpTests are about the limit on look-ups of accounts.
func lookUpTests() []test {
	return []test{
		{"LookUpsAreLimited", testLookUpsAreLimited},
		{"LookUpLimitRefusesNoRetry", testLookUpLimitRefusesNoRetry},
		{"LookUpLimitCanBeSwitchedOff", testLookUpLimitCanBeSwitchedOff},
		{"LookUpLimitWritesNothing", testLookUpLimitWritesNothing},
	}
}

// probe requests an SMS to a number to learn whether it has an account.
func (n *node) probe(client, path, number string) answer {
	n.tb.Helper()
	return n.as(client, path, request(map[string]any{"client_secret": newSecret(), "phone_number": number}))
}

// testLookUpsAreLimited makes a client without any SMS left continue: whether a number has an
// account makes no difference to when it is refused.
func testLookUpsAreLimited(t *testing.T, open opener) {
	n := start(t, open(t), limited)
	n.associate(t, "@alice:example.org", msisdn)
	looked := 0
	for i := range 300 {
		path, number := addPath, "+"+msisdn
		switch i % 3 {
		case 1:
			number = fmt.Sprintf("+4477009%05d", i)
		case 2:
			path, number = pwdPath, fmt.Sprintf("+4477009%05d", i)
		}
		switch a := n.probe("prober", path, number); {
		case a.errcode() == "M_THREEPID_IN_USE", a.errcode() == "M_THREEPID_NOT_FOUND", a.status == http.StatusOK:
			looked++
		case a.status != http.StatusTooManyRequests:
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if looked > 60 {
		t.Errorf("%d look-ups at once, want 60 at most", looked)
	}
	for _, number := range []string{"+" + msisdn, "+447700900999"} {
		a := n.probe("prober", addPath, number)
		expect(t, a, http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
		if a.header.Get("Retry-After") != "10" {
			t.Errorf("Retry-After %q, want 10", a.header.Get("Retry-After"))
		}
	}
	expect(t, n.probe("another", addPath, "+"+msisdn), http.StatusBadRequest, "M_THREEPID_IN_USE")
	n.clock.advance(10 * time.Second)
	expect(t, n.probe("prober", addPath, "+"+msisdn), http.StatusBadRequest, "M_THREEPID_IN_USE")
	expect(t, n.probe("prober", addPath, "+"+msisdn), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
}

// fewLookUps allows one look-up.
func fewLookUps(o *threepid.Options) {
	limited(o)
	o.Limits.LookUps = []limits.Limit{{Burst: 1, Every: time.Hour}}
}

func testLookUpLimitRefusesNoRetry(t *testing.T, open opener) {
	st := open(t)
	n, other := start(t, st, fewLookUps), start(t, st, fewLookUps)
	sid := n.mustRequest(addPath, attempt(2)).text("sid") // of another client
	expect(t, n.as("client", addPath, dial(inFrance)), http.StatusOK, "")
	expect(t, other.as("client", addPath, dial(inUS)), http.StatusOK, "")
	for _, node := range []*node{n, other} {
		for _, i := range []int{2, 1} {
			a := node.as("client", addPath, attempt(i))
			expect(t, a, http.StatusOK, "")
			if a.text("sid") != sid {
				t.Errorf("sid %s, want %s", a.text("sid"), sid)
			}
		}
		expect(t, node.as("client", addPath, attempt(3)), http.StatusTooManyRequests, "M_LIMIT_EXCEEDED")
	}
}

func testLookUpLimitCanBeSwitchedOff(t *testing.T, open opener) {
	for name, change := range map[string]func(*threepid.Options){
		"all off":   func(o *threepid.Options) { limited(o); o.Limits.Disabled = true },
		"this off":  func(o *threepid.Options) { limited(o); o.Limits.LookUps = []limits.Limit{} },
		"no client": func(o *threepid.Options) { limited(o); o.ClientKey = func(*gin.Context) string { return "" } },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t), change)
			n.associate(t, "@alice:example.org", msisdn)
			for range 100 {
				if a := n.probe("prober", addPath, "+"+msisdn); a.errcode() != "M_THREEPID_IN_USE" {
					t.Fatalf("%d %s", a.status, a.body)
				}
			}
		})
	}
}

// testLookUpLimitWritesNothing checks that a flood of refused look-ups writes nothing and looks up
// no account.
func testLookUpLimitWritesNothing(t *testing.T, open opener) {
	inner := &lookers{Store: open(t)}
	counter := storetest.Counting(inner)
	n := start(t, both{counter, inner}, fewLookUps)
	n.associate(t, "@alice:example.org", msisdn)
	for range 20 {
		n.probe("prober", addPath, "+"+msisdn)
	}
	if counter.Updates() != 0 || inner.owners.Load() != 1 {
		t.Errorf("%d writes and %d look-ups, want 0 and 1", counter.Updates(), inner.owners.Load())
	}
}
