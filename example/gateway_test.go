package main_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// text is an SMS as the gateway got it.
type text struct {
	ID      string `json:"id"`
	To      string `json:"to"`
	Text    string `json:"text"`
	Country string `json:"country"`
	Attempt int64  `json:"attempt"`

	at time.Time
}

// code is the token in the text.
func (m text) code() string { return m.Text[:6] }

// behaviour is what a gateway does with a text that it has written down.
type behaviour func(m text, w http.ResponseWriter, r *http.Request)

// gateway writes every text down, as a provider that sends it, and only then
// does whatever its behaviour is. It knows no idempotency keys: a text that comes
// twice is two texts.
type gateway struct {
	url string

	mu    sync.Mutex
	texts map[string][]text // by number, in the order of their arrival
}

func newGateway(t *testing.T, behave behaviour) *gateway {
	t.Helper()
	g := &gateway{texts: map[string][]text{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m text
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			return // the sender was killed half-way
		}
		if len(m.Text) < 6 || m.ID == "" || m.Country != "GB" || r.Header.Get("Idempotency-Key") != m.ID {
			t.Errorf("the gateway got %+v with key %q", m, r.Header.Get("Idempotency-Key"))
			return
		}
		g.record(m)
		behave(m, w, r)
	}))
	g.url = server.URL
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return g
}

func (g *gateway) record(m text) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.at = time.Now()
	g.texts[m.To] = append(g.texts[m.To], m)
}

// to returns the texts to a number.
func (g *gateway) to(number string) []text {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]text(nil), g.texts[number]...)
}

func (g *gateway) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, texts := range g.texts {
		n += len(texts)
	}
	return n
}

// await waits for the first text to a number.
func (g *gateway) await(t *testing.T, number string) text {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if texts := g.to(number); len(texts) > 0 {
			return texts[0]
		}
	}
	t.Fatalf("the gateway has no text for %s", number)
	return text{}
}

// accept says yes at once.
func accept(text, http.ResponseWriter, *http.Request) {}

// dawdle says yes after a random while, of up to most.
func dawdle(most time.Duration) behaviour {
	return func(text, http.ResponseWriter, *http.Request) { time.Sleep(rand.N(most)) }
}

// holding says yes when released is closed, unless the sender goes away.
func holding(released <-chan struct{}) behaviour {
	return func(_ text, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}
}

// holdFirst holds the first text, and says yes to the others at once.
func holdFirst(released <-chan struct{}) behaviour {
	var asked atomic.Int64
	return func(m text, w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			holding(released)(m, w, r)
		}
	}
}

// sending is a server with one caller whose text is at the gateway, which has not
// answered.
type sending struct {
	*server
	gateway *gateway
	who     person
	answer  chan answer
	accept  func() // has the gateway answer
}

func startSending(t *testing.T, db string) *sending {
	t.Helper()
	released := make(chan struct{})
	g := newGateway(t, holdFirst(released))
	s := &sending{
		server: start(t, "-db", db, "-sms", "webhook:"+g.url), gateway: g, who: newPerson(),
		answer: make(chan answer, 1), accept: func() { close(released) },
	}
	go func() { s.answer <- s.who.request(s.url, 1) }()
	g.await(t, s.who.number())
	return s
}

// expectRefused sends requests of new people at once, each of which gets an error in time, because
// the store fails.
func (s *sending) expectRefused(n int, most time.Duration) []person {
	s.t.Helper()
	people := make([]person, n)
	together(n, func(i int) {
		people[i] = newPerson()
		got := people[i].request(s.url, 1)
		if got.status != http.StatusInternalServerError || got.errcode != "M_UNKNOWN" || got.took > most {
			s.t.Errorf("while the store fails: %v", got)
		}
	})
	return people
}

// expectServed repeats the requests that were refused, and the one whose SMS had been sent: in the
// end each person has one SMS. A call or two may meet a dead connection.
func (s *sending) expectServed(people []person) {
	s.t.Helper()
	for _, who := range append(people, s.who) {
		var got answer
		for try := 0; got.status != http.StatusOK && try < 24; try++ {
			got = who.request(s.url, 1)
		}
		texts := s.gateway.to(who.number())
		if got.status != http.StatusOK || len(texts) != 1 {
			s.t.Errorf("%s, when all is well again: %v, %d texts", who.number(), got, len(texts))
			continue
		}
		if got := who.submit(s.url, got.sid, texts[0].code()); got.status != http.StatusOK {
			s.t.Errorf("%s: submit: %v", who.number(), got)
		}
	}
}

// expectDiscreet wants no code, no number and no secret in what a server logged.
func (g *gateway) expectDiscreet(t *testing.T, log string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	codes := map[string]bool{}
	for number, texts := range g.texts {
		if strings.Contains(log, strings.TrimPrefix(number, "+44")) {
			t.Errorf("the log has the number %s", number)
		}
		for _, m := range texts {
			codes[m.code()] = true
		}
	}
	for _, word := range regexp.MustCompile(`\b[0-9]{6}\b`).FindAllString(log, -1) {
		if codes[word] {
			t.Errorf("the log has the code %s", word)
		}
	}
	if strings.Contains(log, secretPrefix) || strings.Contains(log, databasePassword) {
		t.Errorf("the log has a secret:\n%s", log)
	}
}
