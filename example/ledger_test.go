package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	requestPath = "/_api/client/v3/account/3pid/msisdn/requestToken"
	submitPath  = "/_api/client/v3/account/3pid/msisdn/submitToken"

	secretPrefix     = "sesame-"
	databasePassword = "hunter2"
)

// web is the HTTP client of all tests. Its timeout is longer than a request that waits for
// a lease and then for its SMS.
var web = &http.Client{
	Timeout:   time.Minute,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second},
}

// outcome is the result of a call.
type outcome struct {
	status  int
	errcode string
	sid     string
	took    time.Duration
	err     error // set if there was no response
}

func (a outcome) String() string {
	return fmt.Sprintf("status %d %s after %v, error %v", a.status, a.errcode, a.took.Round(time.Millisecond), a.err)
}

// call posts a JSON object. Unless from is empty, it claims that address in X-Forwarded-For.
func call(url, from string, fields map[string]any) (a outcome) {
	begin := time.Now()
	defer func() { a.took = time.Since(begin) }()
	body, err := json.Marshal(fields)
	if err != nil {
		return outcome{err: err}
	}
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return outcome{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	if from != "" {
		req.Header.Set("X-Forwarded-For", from)
	}
	res, err := web.Do(req)
	if err != nil {
		return outcome{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	var got struct{ ErrCode, SID string }
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		return outcome{err: err}
	}
	return outcome{status: res.StatusCode, errcode: got.ErrCode, sid: got.SID}
}

// person is a client with its own number and client_secret.
type person struct {
	digits, secret string
	from           string // sent as X-Forwarded-For, which some servers trust; may be empty
}

var persons atomic.Int64

func newPerson() person {
	n := persons.Add(1)
	return person{digits: fmt.Sprintf("7400%06d", 100_000+n), secret: fmt.Sprint(secretPrefix, n)}
}

// newStranger returns a person with a separate address and a number far from all others, so
// that many of them do not exceed the default limits.
func newStranger() person {
	n := persons.Add(1)
	return person{
		digits: fmt.Sprintf("7%09d", 400_000_000+n*10_007%600_000_000), secret: fmt.Sprint(secretPrefix, n),
		from: fmt.Sprintf("10.%d.%d.1", n>>8&0xff, n&0xff),
	}
}

func (p person) number() string { return "+44" + p.digits }

func (p person) request(url string, attempt int64) outcome {
	return call(url+requestPath, p.from, map[string]any{
		"client_secret": p.secret, "country": "GB", "phone_number": "0" + p.digits, "send_attempt": attempt,
	})
}

func (p person) submit(url, sid, code string) outcome {
	return call(url+submitPath, p.from, map[string]any{"client_secret": p.secret, "sid": sid, "token": code})
}

// ledger records the requests of callers and their results, so that audit can compare them
// with the SMS at the gateway.
type ledger struct {
	t       *testing.T
	gateway *gateway
	lenient bool // the store may fail: 500 M_UNKNOWN is allowed, and the attempt is retried

	mu       sync.Mutex
	accounts []*account
	failures []failure
}

// failure is a call whose response was neither 200 nor missing.
type failure struct {
	outcome
	asked time.Time
}

// account is one person's session.
type account struct {
	person
	mu           sync.Mutex
	sid          string
	acknowledged []time.Time // when attempt i+1 first got status 200; zero if never
	validated    bool
}

func (a *account) attempts() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.acknowledged))
}

// isAcknowledged reports whether the attempt got status 200.
func (a *account) isAcknowledged(attempt int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.acknowledged[attempt-1].IsZero()
}

// open adds an account without attempts.
func (l *ledger) open() *account {
	a := &account{person: newPerson()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accounts = append(l.accounts, a)
	return a
}

// next returns the next send_attempt of the account.
func (a *account) next() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.acknowledged = append(a.acknowledged, time.Time{})
	return int64(len(a.acknowledged))
}

// request sends the request of an attempt, which may be a repetition, and records the result.
func (l *ledger) request(url string, a *account, attempt int64) outcome {
	asked := time.Now()
	got := a.request(url, attempt)
	l.note(got, asked)
	if got.status != http.StatusOK {
		return got
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.acknowledged[attempt-1].IsZero() {
		a.acknowledged[attempt-1] = time.Now()
	}
	if a.sid == "" {
		a.sid = got.sid
	}
	if got.sid == "" || got.sid != a.sid {
		l.t.Errorf("%s: the sid was %s and is now %s", a.number(), a.sid, got.sid)
	}
	return got
}

// submit submits the code of the latest SMS, if there is one and the sid is known.
func (l *ledger) submit(url string, a *account) outcome {
	a.mu.Lock()
	sid := a.sid
	a.mu.Unlock()
	messages := l.gateway.to(a.number())
	if sid == "" || len(messages) == 0 {
		return outcome{}
	}
	asked := time.Now()
	got := a.submit(url, sid, messages[len(messages)-1].code())
	l.note(got, asked)
	if got.status == http.StatusOK {
		a.mu.Lock()
		a.validated = true
		a.mu.Unlock()
	}
	return got
}

func (l *ledger) note(got outcome, asked time.Time) {
	if got.err != nil || got.status == http.StatusOK {
		return
	}
	if !l.lenient || got.status != http.StatusInternalServerError || got.errcode != "M_UNKNOWN" {
		l.t.Errorf("unexpected result of a call: %v", got)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, failure{outcome: got, asked: asked})
}

// all returns a copy of the list of accounts.
func (l *ledger) all() []*account {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*account(nil), l.accounts...)
}

// step makes a random call: it starts a session, repeats an attempt, makes the next attempt,
// or submits a code.
func (l *ledger) step(url string) outcome {
	accounts := l.all()
	if len(accounts) == 0 || rand.N(2) == 0 {
		a := l.open()
		return l.request(url, a, a.next())
	}
	a := accounts[rand.N(len(accounts))]
	attempts := a.attempts()
	// Repeating an interrupted attempt waits for its lease, so this does it rarely;
	// retryUnacknowledged repeats the others.
	if attempts == 0 || !a.isAcknowledged(attempts) && rand.N(10) > 0 {
		return outcome{}
	}
	switch rand.N(3) {
	case 0:
		return l.request(url, a, 1+rand.N(attempts))
	case 1:
		return l.request(url, a, a.next())
	default:
		return l.submit(url, a)
	}
}

// randomCalls makes random calls with concurrent callers until stop is closed. The server
// may be killed in the meantime.
func (l *ledger) randomCalls(url string, callers int, stop <-chan struct{}) {
	together(callers, func(int) {
		for !closed(stop) {
			if l.step(url).err != nil {
				time.Sleep(time.Millisecond)
			}
		}
	})
}

// background runs fn in a goroutine. end closes stop and waits until fn returns.
func background(fn func(stop <-chan struct{})) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		fn(stop)
	}()
	return func() {
		close(stop)
		<-done
	}
}

// together runs fn(0) to fn(n-1) concurrently and waits for all of them.
func together(n int, fn func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { fn(i) })
	}
	all.Wait()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
