package main_test

import (
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// cluster is several nodes of the example that share a database.
type cluster struct {
	t       *testing.T
	args    []string
	gateway *gateway
	nodes   []*server
}

// startCluster starts n nodes concurrently on one database. All of them migrate it at the same time.
func startCluster(t *testing.T, n int, db string, g *gateway) *cluster {
	t.Helper()
	c := &cluster{t: t, gateway: g, args: []string{"-db", db, "-sms", "webhook:" + g.url}}
	for range n {
		c.nodes = append(c.nodes, launch(t, c.args...))
	}
	for _, s := range c.nodes {
		s.await()
	}
	return c
}

// url returns the URL of a node: turn modulo the number of nodes.
func (c *cluster) url(turn int) string { return c.nodes[turn%len(c.nodes)].url }

// TestNodes checks that several processes that share a database behave like one.
func TestNodes(t *testing.T) {
	t.Parallel()
	const conns = 60 // as many as concurrent requests
	for name, open := range databases(conns) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			nodes := 3
			if filepath.IsAbs(db) {
				nodes = 2 // SQLite, which processes on one machine can share
			}
			c := startCluster(t, nodes, db, newGateway(t, delay(100*time.Millisecond)))
			c.identicalRequests()
			c.submitElsewhere()
			c.guesses()
			for _, s := range c.nodes {
				c.gateway.expectDiscreet(t, s.stderr.String())
				s.stop()
			}
		})
	}
}

// identicalRequests sends the same request to all nodes concurrently, and expects one SMS.
func (c *cluster) identicalRequests() {
	c.t.Helper()
	p := newPerson()
	outcomes := make([]outcome, 60)
	together(len(outcomes), func(i int) { outcomes[i] = p.request(c.url(i), 1) })
	for _, got := range outcomes {
		if got.status != http.StatusOK || got.sid == "" || got.sid != outcomes[0].sid {
			c.t.Errorf("%v, sid %q; the first had %q", got, got.sid, outcomes[0].sid)
		}
	}
	c.expectSMS(p, 1)
}

func (c *cluster) expectSMS(p person, want int) {
	c.t.Helper()
	if messages := c.gateway.to(p.number()); len(messages) != want {
		c.t.Errorf("%d SMS, want %d: %v", len(messages), want, messages)
	}
}

// submitElsewhere uses one session on all nodes: it repeats the request, submits the code and requests
// another SMS on different nodes.
func (c *cluster) submitElsewhere() {
	c.t.Helper()
	p := newPerson()
	first := p.request(c.url(0), 1)
	again := p.request(c.url(1), 1)
	if first.status != http.StatusOK || again.status != http.StatusOK || first.sid != again.sid {
		c.t.Fatalf("%v with sid %q, %v with sid %q", first, first.sid, again, again.sid)
	}
	c.expectSMS(p, 1)
	code := c.gateway.to(p.number())[0].code()
	for turn := range c.nodes {
		if got := p.submit(c.url(turn+1), first.sid, code); got.status != http.StatusOK {
			c.t.Errorf("submit: %v", got)
		}
	}
	if got := p.request(c.url(2), 2); got.status != http.StatusOK || got.sid != first.sid {
		c.t.Errorf("the next attempt on another node: %v", got)
	}
	c.expectSMS(p, 2)
}

// guesses submits a thousand wrong codes to all nodes concurrently. Exactly five must be compared.
// After that, the right code must be refused, and the code of a new SMS accepted.
func (c *cluster) guesses() {
	c.t.Helper()
	const guesses, callers = 1000, 30
	p := newPerson()
	sid := p.request(c.url(0), 1).sid
	code := c.gateway.await(c.t, p.number()).code()
	right, err := strconv.Atoi(code)
	if err != nil {
		c.t.Fatal(err)
	}
	var compared, refused atomic.Int64
	together(callers, func(caller int) {
		for i := caller; i < guesses; i += callers {
			wrong := strconv.Itoa((right+1+i)%1_000_000 + 1_000_000)[1:]
			switch got := p.submit(c.url(i), sid, wrong); got.errcode {
			case "M_TOKEN_INCORRECT":
				compared.Add(1)
			case "M_SESSION_EXPIRED":
				refused.Add(1)
			default:
				c.t.Errorf("unexpected response to a wrong code: %v", got)
			}
		}
	})
	if compared.Load() != 5 || compared.Load()+refused.Load() != guesses {
		c.t.Errorf("%d codes were compared and %d refused; want 5 compared, and all others refused", compared.Load(), refused.Load())
	}
	if got := p.submit(c.url(1), sid, code); got.errcode != "M_SESSION_EXPIRED" {
		c.t.Errorf("the right code after five wrong ones: %v", got)
	}
	if got := p.request(c.url(2), 2); got.status != http.StatusOK {
		c.t.Fatalf("requesting a new code: %v", got)
	}
	messages := c.gateway.to(p.number())
	if got := p.submit(c.url(0), sid, messages[len(messages)-1].code()); len(messages) != 2 || got.status != http.StatusOK {
		c.t.Errorf("submitting the new code: %v; SMS: %v", got, messages)
	}
}

// TestNodeDiesSending kills a node while the gateway holds its SMS. The SMS may have been
// accepted, so the other nodes wait for the lease. Then exactly one of them sends the same
// SMS again.
func TestNodeDiesSending(t *testing.T) {
	t.Parallel()
	for name, open := range databases(20) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			c := startCluster(t, 3, db, newGateway(t, holdFirst(nil)))
			p := newPerson()
			gone := make(chan outcome, 1)
			go func() { gone <- p.request(c.url(0), 1) }()
			before := c.gateway.await(t, p.number())
			c.nodes[0].kill()
			if got := <-gone; got.err == nil {
				t.Errorf("the killed node returned a response: %v", got)
			}
			outcomes := make([]outcome, 10)
			together(len(outcomes), func(i int) { outcomes[i] = p.request(c.nodes[1+i%2].url, 1) })
			c.expectSMS(p, 2)
			after := c.gateway.to(p.number())[1]
			if after.ID != before.ID || after.Text != before.Text {
				t.Errorf("%+v was sent again as %+v", before, after)
			}
			// The lease is SendTimeout, which is ten seconds, plus five seconds.
			if waited := after.at.Sub(before.at); waited < 14*time.Second || waited > 20*time.Second {
				t.Errorf("the SMS was sent again after %v, want about 15 seconds", waited)
			}
			for _, got := range outcomes {
				if got.status != http.StatusOK || got.sid != outcomes[0].sid {
					t.Errorf("%v", got)
				}
			}
			if got := p.submit(c.nodes[1].url, outcomes[0].sid, before.code()); got.status != http.StatusOK {
				t.Errorf("submitting the code of the first SMS: %v", got)
			}
		})
	}
}

// TestRollingRestart replaces one node after the other under load, as a deployment does. If a
// node does not respond, callers retry at the next one. Every request must succeed in the end,
// with one SMS.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	for name, open := range databases(40) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			g := newGateway(t, delay(50*time.Millisecond))
			c := startCluster(t, 3, db, g)
			b := &balancer{}
			for _, s := range c.nodes {
				b.urls = append(b.urls, new(atomic.Pointer[string]))
				b.urls[len(b.urls)-1].Store(&s.url)
			}
			l := &ledger{t: t, gateway: g}
			end := background(func(stop <-chan struct{}) { l.requestThrough(b, 12, stop) })
			for i, old := range c.nodes {
				time.Sleep(100 * time.Millisecond)
				s := start(t, c.args...)
				b.urls[i].Store(&s.url)
				old.stop()
			}
			end()
			l.submitAll(*b.urls[0].Load())
			l.audit()
			for _, a := range l.all() {
				if messages := g.to(a.number()); len(messages) != 1 {
					t.Errorf("%s received %d SMS, want 1", a.number(), len(messages))
				}
			}
		})
	}
}

// balancer holds the current URLs of the nodes.
type balancer struct {
	urls []*atomic.Pointer[string]
}

// requestThrough sends requests of new people to the nodes of a balancer until stop is closed.
func (l *ledger) requestThrough(b *balancer, callers int, stop <-chan struct{}) {
	together(callers, func(turn int) {
		for !closed(stop) {
			a := l.open()
			attempt := a.next()
			got := outcome{}
			for try := 0; got.status == 0 && try < 20; try++ {
				turn++
				got = l.request(*b.urls[turn%len(b.urls)].Load(), a, attempt)
			}
			if got.status != http.StatusOK {
				l.t.Errorf("%s: no node responded with status 200: %v", a.number(), got)
			}
		}
	})
}
