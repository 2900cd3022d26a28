package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("THREEPID_TEST_LONG") == "" {
		fmt.Println("skipped: set THREEPID_TEST_LONG=1 to simulate days of attacks, which takes half a minute")
		return
	}
	gin.SetMode(gin.TestMode)
	m.Run()
}

// named returns the scenario whose name begins with a prefix.
func named(t *testing.T, name string) scenario {
	t.Helper()
	for _, sc := range scenarios() {
		if strings.HasPrefix(sc.name, name) {
			return sc
		}
	}
	t.Fatalf("no scenario %q", name)
	return scenario{}
}

// TestPump checks that the defaults let through few of the SMS that the limits alone let through,
// and these few of those without any limit.
func TestPump(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		most int // SMS in a day to three ranges, with the defaults
	}{
		{"pump over three ranges, in order", 150}, {"pump over three ranges, mixed", 200},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			results, err := playSettings(named(t, row.name), small)
			if err != nil {
				t.Fatal(err)
			}
			defaults, limits, nothing := results[0].pumped, results[1].pumped, results[2].pumped
			if defaults > row.most || defaults*4 > limits || limits > 1_000 || nothing < 10*limits {
				t.Errorf("%d SMS with defaults, %d with limits only, %d with nothing", defaults, limits, nothing)
			}
		})
	}
}

// TestPumpFromNewAddresses simulates an attacker who owns a network. The guard must not treat each
// of its addresses as a person.
func TestPumpFromNewAddresses(t *testing.T) {
	t.Parallel()
	results, err := playSettings(named(t, "pump all over the country, each"), small)
	if err != nil {
		t.Fatal(err)
	}
	if defaults, limits := results[0].pumped, results[1].pumped; defaults == 0 || defaults*10 > limits {
		t.Errorf("%d SMS with defaults, %d with limits only", defaults, limits)
	}
}

// TestHonestPeople checks that fewer than one in a thousand honest people are refused.
func TestHonestPeople(t *testing.T) {
	t.Parallel()
	s := small
	s.users = 5_000
	r, err := playDay(named(t, "honest people"), s, func(*threepid.Options) {})
	if err != nil {
		t.Fatal(err)
	}
	if r.validated < s.users*6/10 || r.refused*1000 >= s.users || r.blocks > 0 {
		t.Errorf("%+v", r)
	}
}

// TestGuessing checks that few of an attacker's guesses are compared in a week, with any number of
// clients, and that the owner is never refused.
func TestGuessing(t *testing.T) {
	t.Parallel()
	s := small
	s.days = 7
	for _, clients := range []int{1, s.guessers} {
		g, err := playGuessing(clients, s, func(*threepid.Options) {})
		if err != nil {
			t.Fatal(err)
		}
		if g.compared == 0 || g.compared > 120 || g.ownerFailed > 0 {
			t.Errorf("%d clients: %+v", clients, g)
		}
	}
	free, err := playGuessing(1, s, func(o *threepid.Options) { o.Limits.Disabled, o.Guard.Disabled = true, true })
	if err != nil {
		t.Fatal(err)
	}
	if free.compared < 1_000 {
		t.Errorf("without limits %d tries were compared: the attacker does not try", free.compared)
	}
}

// TestBurst simulates an attacker who sends requests as fast as possible, to one node and to three.
func TestBurst(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3} {
		sent, err := playBurst(nodes)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d nodes: %v SMS", nodes, sent)
		for opening, n := range sent {
			if n == 0 || n > 300*nodes {
				t.Errorf("%d nodes, opening %d: %d SMS", nodes, opening, n)
			}
		}
	}
}

// TestStepUp checks that people who solve a CAPTCHA are served while their country is pumped.
func TestStepUp(t *testing.T) {
	t.Parallel()
	free, err := playStepUp(false, small)
	if err != nil {
		t.Fatal(err)
	}
	paid, err := playStepUp(true, small)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v; when the attacker pays: %+v", free, paid)
	if free.solving*1000 > small.users || free.paid > 0 || paid.solving*100 > small.users || paid.paid == 0 {
		t.Errorf("%+v; when the attacker pays: %+v", free, paid)
	}
}
