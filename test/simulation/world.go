package main

import (
	"container/heap"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/store/memstore"
)

// world is a server with the plugin, a provider that accepts every SMS, and people who act at
// scheduled times, one after another. The plugin's own goroutines, such as its janitor, run in real
// time.
type world struct {
	clock  atomic.Int64 // Unix nanoseconds
	events events
	dice   *rand.Rand
	router *gin.Engine // of the node that gets the request
	nodes  []*node

	solved bool // the client of the next request has solved a CAPTCHA

	mu     sync.Mutex
	texts  map[string]string // the latest SMS, by number
	blocks int

	secrets int
}

const (
	base    = "/_api/client/v3"
	addPath = base + string(threepid.EndpointRequestTokenAdd)
	subPath = base + string(threepid.EndpointSubmitToken)
)

// node is one of the servers.
type node struct {
	router *gin.Engine
	plugin *threepid.Plugin
}

// newWorld returns a world at midnight. change adjusts the options.
func newWorld(seed uint64, change func(*threepid.Options)) (*world, error) {
	return newNodes(seed, 1, change)
}

// newNodes is newWorld with several servers over one store.
func newNodes(seed uint64, nodes int, change func(*threepid.Options)) (*world, error) {
	w := &world{
		dice:  rand.New(rand.NewPCG(seed, seed)), //nolint:gosec // a game
		texts: make(map[string]string),
	}
	w.clock.Store(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC).UnixNano())
	opts := threepid.Options{
		PublicURL: "https://example.org",
		Now:       w.now,
		ClientKey: func(c *gin.Context) string { return c.GetHeader("X-Client") },
		Guard:     limits.Guard{OnBlock: func(limits.Block) { w.closed() }},
		Logger:    slog.New(slog.DiscardHandler),
	}
	change(&opts)
	sender := sms.Func(func(_ context.Context, m sms.Message) error {
		w.texted(m)
		return nil
	})
	st := memstore.New()
	for range nodes {
		router := gin.New()
		plugin, err := threepid.Register(router, st, sender, opts)
		if err != nil {
			return nil, err
		}
		w.nodes = append(w.nodes, &node{router, plugin})
	}
	w.router = w.nodes[0].router
	return w, nil
}

// answer is a response of the server.
type answer struct {
	status  int
	SID     string  `json:"sid"`
	ErrCode string  `json:"errcode"`
	RetryMS float64 `json:"retry_after_ms"`
}

func (a answer) retryAfter() time.Duration { return time.Duration(a.RetryMS) * time.Millisecond }

func (w *world) post(client, path string, body map[string]any) answer {
	text, _ := json.Marshal(body)
	req := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(string(text)))
	req.Header.Set("X-Client", client)
	if w.solved {
		req.Header.Set("X-Captcha", "solved")
	}
	recorder := httptest.NewRecorder()
	w.router.ServeHTTP(recorder, req)
	a := answer{status: recorder.Code}
	_ = json.Unmarshal(recorder.Body.Bytes(), &a)
	return a
}

// askSolving is ask, but solves a CAPTCHA if the server requires one.
func (w *world) askSolving(client, secret, number string, attempt int) (a answer, solved bool) {
	a = w.ask(client, secret, number, attempt)
	if a.status != http.StatusForbidden {
		return a, false
	}
	w.solved = true
	defer func() { w.solved = false }()
	return w.ask(client, secret, number, attempt), true
}

// ask requests an SMS.
func (w *world) ask(client, secret, number string, attempt int) answer {
	return w.post(client, addPath, map[string]any{
		"client_secret": secret, "country": "GB", "phone_number": number, "send_attempt": attempt,
	})
}

func (w *world) submit(client, secret, sid, code string) answer {
	return w.post(client, subPath, map[string]any{"client_secret": secret, "sid": sid, "token": code})
}

// code returns the code in the latest SMS to a number.
func (w *world) code(number string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Fields(w.texts[number] + " none")[0]
}

func (w *world) texted(m sms.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts[m.To] = m.Text
}

// closed counts a block of the guard.
func (w *world) closed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocks++
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Load()).UTC() }

// secret returns a new client_secret.
func (w *world) secret() string {
	w.secrets++
	return fmt.Sprintf("secret-%d", w.secrets)
}

// in schedules do to run after a while.
func (w *world) in(d time.Duration, do func()) {
	heap.Push(&w.events, event{w.now().Add(d), w.events.order(), do})
}

// play runs all events that are scheduled before the end.
func (w *world) play(d time.Duration) {
	end := w.now().Add(d)
	for len(w.events.queue) > 0 && w.events.queue[0].at.Before(end) {
		e, _ := heap.Pop(&w.events).(event)
		w.clock.Store(e.at.UnixNano())
		e.do()
	}
	w.clock.Store(end.UnixNano())
	for _, n := range w.nodes {
		_ = n.plugin.Close()
	}
}

// between returns a random duration.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.dice.Int64N(int64(most-least)))
}

func (w *world) chance(percent int) bool { return w.dice.IntN(100) < percent }

// events is a queue of events, ordered by time.
type events struct {
	queue []event
	count int
}

type event struct {
	at    time.Time
	order int // events at one moment run in the order in which they were scheduled
	do    func()
}

func (e *events) order() int {
	e.count++
	return e.count
}

func (e *events) Len() int { return len(e.queue) }
func (e *events) Less(i, j int) bool {
	if e.queue[i].at.Equal(e.queue[j].at) {
		return e.queue[i].order < e.queue[j].order
	}
	return e.queue[i].at.Before(e.queue[j].at)
}
func (e *events) Swap(i, j int) { e.queue[i], e.queue[j] = e.queue[j], e.queue[i] }
func (e *events) Push(x any)    { next, _ := x.(event); e.queue = append(e.queue, next) }
func (e *events) Pop() any {
	last := e.queue[len(e.queue)-1]
	e.queue = e.queue[:len(e.queue)-1]
	return last
}
