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

// message is an SMS that the gateway received.
type message struct {
	ID      string `json:"id"`
	To      string `json:"to"`
	Text    string `json:"text"`
	Country string `json:"country"`
	Attempt int64  `json:"attempt"`

	at time.Time
}

// code returns the code in the SMS.
func (m message) code() string { return m.Text[:6] }

// behaviour is how a gateway responds after it has recorded an SMS.
type behaviour func(m message, w http.ResponseWriter, r *http.Request)

// gateway is a provider that records every SMS, as if it sent it, before it responds. It
// does not deduplicate by idempotency key: if it receives an SMS twice, it records two.
type gateway struct {
	url string

	mu       sync.Mutex
	messages map[string][]message // by number, in the order received
}

func newGateway(t *testing.T, behave behaviour) *gateway {
	t.Helper()
	g := &gateway{messages: map[string][]message{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			return // the example was killed while it sent the request
		}
		if len(m.Text) < 6 || m.ID == "" || m.Country != "GB" || r.Header.Get("Idempotency-Key") != m.ID {
			t.Errorf("the gateway received %+v with the idempotency key %q", m, r.Header.Get("Idempotency-Key"))
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

func (g *gateway) record(m message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.at = time.Now()
	g.messages[m.To] = append(g.messages[m.To], m)
}

// to returns the SMS to a number.
func (g *gateway) to(number string) []message {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]message(nil), g.messages[number]...)
}

func (g *gateway) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, messages := range g.messages {
		n += len(messages)
	}
	return n
}

// await waits for the first SMS to a number.
func (g *gateway) await(t *testing.T, number string) message {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if messages := g.to(number); len(messages) > 0 {
			return messages[0]
		}
	}
	t.Fatalf("the gateway received no SMS to %s", number)
	return message{}
}

// accept accepts the SMS at once.
func accept(message, http.ResponseWriter, *http.Request) {}

// delay accepts the SMS after a random time of less than limit.
func delay(limit time.Duration) behaviour {
	return func(message, http.ResponseWriter, *http.Request) { time.Sleep(rand.N(limit)) }
}

// holding accepts the SMS when released is closed, unless the client disconnects before that.
func holding(released <-chan struct{}) behaviour {
	return func(_ message, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	}
}

// holdFirst holds the first SMS until released is closed, and accepts all others at once.
func holdFirst(released <-chan struct{}) behaviour {
	var asked atomic.Int64
	return func(m message, w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			holding(released)(m, w, r)
		}
	}
}

// sending is a server with one request whose SMS is at the gateway, which has not responded
// yet.
type sending struct {
	*server
	gateway *gateway
	who     person
	outcome chan outcome
	accept  func() // makes the gateway respond
}

func startSending(t *testing.T, db string) *sending {
	t.Helper()
	released := make(chan struct{})
	g := newGateway(t, holdFirst(released))
	s := &sending{
		server: start(t, "-db", db, "-sms", "webhook:"+g.url), gateway: g, who: newPerson(),
		outcome: make(chan outcome, 1), accept: func() { close(released) },
	}
	go func() { s.outcome <- s.who.request(s.url, 1) }()
	g.await(t, s.who.number())
	return s
}

// expectRefused sends concurrent requests of n new people while the store fails. Each must get an
// error within the time limit.
func (s *sending) expectRefused(n int, limit time.Duration) []person {
	s.t.Helper()
	people := make([]person, n)
	together(n, func(i int) {
		people[i] = newPerson()
		got := people[i].request(s.url, 1)
		if got.status != http.StatusInternalServerError || got.errcode != "M_UNKNOWN" || got.took > limit {
			s.t.Errorf("while the store fails: %v", got)
		}
	})
	return people
}

// expectServed repeats the requests that were refused, and the one whose SMS was sent. Each person
// must have exactly one SMS in the end. Some calls may still use a broken database connection.
func (s *sending) expectServed(people []person) {
	s.t.Helper()
	for _, who := range append(people, s.who) {
		var got outcome
		for try := 0; got.status != http.StatusOK && try < 24; try++ {
			got = who.request(s.url, 1)
		}
		messages := s.gateway.to(who.number())
		if got.status != http.StatusOK || len(messages) != 1 {
			s.t.Errorf("%s, after the store has recovered: %v, %d SMS, want 1", who.number(), got, len(messages))
			continue
		}
		if got := who.submit(s.url, got.sid, messages[0].code()); got.status != http.StatusOK {
			s.t.Errorf("%s: submit: %v", who.number(), got)
		}
	}
}

// expectDiscreet checks that the log of a server contains no code, number or secret.
func (g *gateway) expectDiscreet(t *testing.T, log string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	codes := map[string]bool{}
	for number, messages := range g.messages {
		if strings.Contains(log, strings.TrimPrefix(number, "+44")) {
			t.Errorf("the log contains the number %s", number)
		}
		for _, m := range messages {
			codes[m.code()] = true
		}
	}
	for _, word := range regexp.MustCompile(`\b[0-9]{6}\b`).FindAllString(log, -1) {
		if codes[word] {
			t.Errorf("the log contains the code %s", word)
		}
	}
	if strings.Contains(log, secretPrefix) || strings.Contains(log, databasePassword) {
		t.Errorf("the log contains a secret:\n%s", log)
	}
}
