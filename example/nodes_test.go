package main_test

import (
	"net/http"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// cluster is several examples over one database.
type cluster struct {
	t       *testing.T
	args    []string
	gateway *gateway
	nodes   []*server
}

// startCluster starts all nodes at the same moment on one database. If it is empty, one of them
// must create its tables.
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

// url is that of the node whose turn it is.
func (c *cluster) url(turn int) string { return c.nodes[turn%len(c.nodes)].url }

// TestNodes has several processes over one database behave as one.
func TestNodes(t *testing.T) {
	t.Parallel()
	const conns = 60 // as many as there are requests at once
	for name, open := range databases(conns) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			nodes := 3
			if filepath.IsAbs(db) {
				nodes = 2 // a file is for one machine, and less worth sharing
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
		c.t.Errorf("%d texts, want %d: %v", len(messages), want, messages)
	}
}

// submitElsewhere takes a session from node to node.
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
		c.t.Errorf("the next attempt: %v", got)
	}
	c.expectSMS(p, 2)
}

// guesses brings a thousand wrong codes to all nodes at once. Five are compared,
// however they meet; then not even the right one is good, and only a new text
// has one that is.
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
				c.t.Errorf("a wrong code: %v", got)
			}
		}
	})
	if compared.Load() != 5 || compared.Load()+refused.Load() != guesses {
		c.t.Errorf("%d codes were compared and %d refused", compared.Load(), refused.Load())
	}
	if got := p.submit(c.url(1), sid, code); got.errcode != "M_SESSION_EXPIRED" {
		c.t.Errorf("the code that was used up: %v", got)
	}
	if got := p.request(c.url(2), 2); got.status != http.StatusOK {
		c.t.Fatalf("a new code: %v", got)
	}
	messages := c.gateway.to(p.number())
	if got := p.submit(c.url(0), sid, messages[len(messages)-1].code()); len(messages) != 2 || got.status != http.StatusOK {
		c.t.Errorf("the new code: %v, of %v", got, messages)
	}
}

// TestNodeDiesSending kills a node whose text is at the gateway. It may have been
// accepted, so the others wait for the lease; then one of them sends the same
// again, once.
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
				t.Errorf("the node that was killed answered: %v", got)
			}
			outcomes := make([]outcome, 10)
			together(len(outcomes), func(i int) { outcomes[i] = p.request(c.nodes[1+i%2].url, 1) })
			c.expectSMS(p, 2)
			after := c.gateway.to(p.number())[1]
			if after.ID != before.ID || after.Text != before.Text {
				t.Errorf("%+v was sent again as %+v", before, after)
			}
			// The lease is ten seconds for the text and five more.
			if waited := after.at.Sub(before.at); waited < 14*time.Second || waited > 20*time.Second {
				t.Errorf("sent again after %v", waited)
			}
			for _, got := range outcomes {
				if got.status != http.StatusOK || got.sid != outcomes[0].sid {
					t.Errorf("%v", got)
				}
			}
			if got := p.submit(c.nodes[1].url, outcomes[0].sid, before.code()); got.status != http.StatusOK {
				t.Errorf("the code of the first text: %v", got)
			}
		})
	}
}

// TestRollingRestart replaces one node after the other under load, as a deployment
// does. Callers go to the next node when one does not take their call; no
// call fails, and no attempt is sent two SMS.
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
					t.Errorf("%s has %d texts", a.number(), len(messages))
				}
			}
		})
	}
}

// balancer knows where the nodes are.
type balancer struct {
	urls []*atomic.Pointer[string]
}

// requestThrough makes new requests through a balancer until stop is closed.
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
				l.t.Errorf("%s: no node answers: %v", a.number(), got)
			}
		}
	})
}
