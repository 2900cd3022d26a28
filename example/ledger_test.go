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

// web carries the calls of all tests. A call takes no longer than a request that
// waits for a lease and then for a text.
var web = &http.Client{
	Timeout:   time.Minute,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second},
}

// answer is how a call ended.
type answer struct {
	status  int
	errcode string
	sid     string
	took    time.Duration
	err     error // there was no answer
}

func (a answer) String() string {
	return fmt.Sprintf("status %d %s after %v, error %v", a.status, a.errcode, a.took.Round(time.Millisecond), a.err)
}

// call posts a JSON object, as if it came from an address unless that is empty.
func call(url, from string, fields map[string]any) (a answer) {
	begin := time.Now()
	defer func() { a.took = time.Since(begin) }()
	body, err := json.Marshal(fields)
	if err != nil {
		return answer{err: err}
	}
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	if from != "" {
		req.Header.Set("X-Forwarded-For", from)
	}
	res, err := web.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	var got struct{ ErrCode, SID string }
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		return answer{err: err}
	}
	return answer{status: res.StatusCode, errcode: got.ErrCode, sid: got.SID}
}

// person has a number and a client_secret of their own.
type person struct {
	digits, secret string
	from           string // the address, if a server is configured to believe it; may be empty
}

var persons atomic.Int64

func newPerson() person {
	n := persons.Add(1)
	return person{digits: fmt.Sprintf("7400%06d", 100_000+n), secret: fmt.Sprint(secretPrefix, n)}
}

// newStranger returns a person with an address of their own and a number far from
// everybody else's, as the default limits expect of honest people.
func newStranger() person {
	n := persons.Add(1)
	return person{
		digits: fmt.Sprintf("7%09d", 400_000_000+n*10_007%600_000_000), secret: fmt.Sprint(secretPrefix, n),
		from: fmt.Sprintf("10.%d.%d.1", n>>8&0xff, n&0xff),
	}
}

func (p person) number() string { return "+44" + p.digits }

func (p person) request(url string, attempt int64) answer {
	return call(url+requestPath, p.from, map[string]any{
		"client_secret": p.secret, "country": "GB", "phone_number": "0" + p.digits, "send_attempt": attempt,
	})
}

func (p person) submit(url, sid, code string) answer {
	return call(url+submitPath, p.from, map[string]any{"client_secret": p.secret, "sid": sid, "token": code})
}

// ledger has all that callers asked for and were told, to be held against what
// the gateway got.
type ledger struct {
	t       *testing.T
	gateway *gateway
	lenient bool // the store may fail: 500 M_UNKNOWN is no surprise, and the attempt is tried again

	mu       sync.Mutex
	accounts []*account
	failures []failure
}

// failure is a call whose response was neither 200 nor missing.
type failure struct {
	answer
	asked time.Time
}

// account is one person's session.
type account struct {
	person
	mu        sync.Mutex
	sid       string
	told      []time.Time // when attempt i+1 was first answered 200; zero: never
	validated bool
}

func (a *account) attempts() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.told))
}

// isTold reports whether the attempt got status 200.
func (a *account) isTold(attempt int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.told[attempt-1].IsZero()
}

// open begins a session, with no attempt made yet.
func (l *ledger) open() *account {
	a := &account{person: newPerson()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accounts = append(l.accounts, a)
	return a
}

// next returns the number of an attempt that nobody has made.
func (a *account) next() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, time.Time{})
	return int64(len(a.told))
}

// request makes an attempt, again or for the first time, and writes down what
// came of it.
func (l *ledger) request(url string, a *account, attempt int64) answer {
	asked := time.Now()
	got := a.request(url, attempt)
	l.note(got, asked)
	if got.status != http.StatusOK {
		return got
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.told[attempt-1].IsZero() {
		a.told[attempt-1] = time.Now()
	}
	if a.sid == "" {
		a.sid = got.sid
	}
	if got.sid == "" || got.sid != a.sid {
		l.t.Errorf("%s: the session was %s and is %s", a.number(), a.sid, got.sid)
	}
	return got
}

// submit brings the code of the latest text back, if there is one and the
// session is known.
func (l *ledger) submit(url string, a *account) answer {
	a.mu.Lock()
	sid := a.sid
	a.mu.Unlock()
	texts := l.gateway.to(a.number())
	if sid == "" || len(texts) == 0 {
		return answer{}
	}
	asked := time.Now()
	got := a.submit(url, sid, texts[len(texts)-1].code())
	l.note(got, asked)
	if got.status == http.StatusOK {
		a.mu.Lock()
		a.validated = true
		a.mu.Unlock()
	}
	return got
}

func (l *ledger) note(got answer, asked time.Time) {
	if got.err != nil || got.status == http.StatusOK {
		return
	}
	if !l.lenient || got.status != http.StatusInternalServerError || got.errcode != "M_UNKNOWN" {
		l.t.Errorf("a call was answered with %v", got)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, failure{answer: got, asked: asked})
}

// all returns the accounts there are by now.
func (l *ledger) all() []*account {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*account(nil), l.accounts...)
}

// step is one random call: a new session, an attempt made again, a further
// attempt, or a code brought back.
func (l *ledger) step(url string) answer {
	accounts := l.all()
	if len(accounts) == 0 || rand.N(2) == 0 {
		a := l.open()
		return l.request(url, a, a.next())
	}
	a := accounts[rand.N(len(accounts))]
	attempts := a.attempts()
	// An attempt that was cut off waits for its lease: enough of those come at
	// the end.
	if attempts == 0 || !a.isTold(attempts) && rand.N(10) > 0 {
		return answer{}
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

// storm makes random calls, n at a time, until stop is closed; then it
// returns. The server may be killed in the meantime.
func (l *ledger) storm(url string, callers int, stop <-chan struct{}) {
	together(callers, func(int) {
		for !closed(stop) {
			if l.step(url).err != nil {
				time.Sleep(time.Millisecond)
			}
		}
	})
}

// background runs fn until end is called, which waits for it.
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

// together runs fn(0) to fn(n-1) at once and waits for all.
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
