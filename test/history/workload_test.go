package history_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/threepid/store"
)

// The workload: each number has a few callers, which repeatedly call any node. After some calls, a
// number is left, so that its partition stays small.

const (
	numberPrefix       = "+44770090" // and four digits
	attemptsPerSession = 1000        // send_attempt also identifies the session, for the provider
	maxAttempts        = 6           // of a session

	callers       = 3 // per number
	maxCalls      = 60
	maxReleases   = 8
	maxUnknown    = 4 // calls without a result, because the checker tries each at every later time
	users         = 2
	callTimeout   = 3 * time.Second
	patience      = lease + 3*time.Second // for every third call, because requestToken may wait for a lease
	hangUpTimeout = 60 * time.Millisecond
)

// mix is the relative frequency of each call.
type mix map[operation]int

func anyCall() mix {
	return mix{requestToken: 28, submitToken: 34, redeem: 8, validated: 8, addNumber: 16, removeNumber: 3, release: 3}
}

func (m mix) choose() operation {
	sum := 0
	for _, share := range m {
		sum += share
	}
	chosen := rand.IntN(sum)
	for op, share := range m {
		if chosen -= share; chosen < 0 {
			return op
		}
	}
	return requestToken
}

// workload calls the nodes of a cluster.
type workload struct {
	*cluster
	mu      sync.Mutex
	numbers map[int]*number
}

// number is what the callers know about a number.
type number struct {
	id       int
	mu       sync.Mutex
	calls    int
	releases int
	unknown  int
	owned    bool // an add succeeded, so a password can be reset
	sessions [maxSessions]knowledge
}

// knowledge is what the callers know about one of its sessions.
type knowledge struct {
	sid     string
	attempt int
	codes   []string // oldest first
}

// purposes returns the purposes of the sessions. A password can be reset only while the number is
// on an account, so it comes last.
func purposes() [maxSessions]store.Purpose {
	return [maxSessions]store.Purpose{store.PurposeAdd, store.PurposeAdd, store.PurposeRegister, store.PurposePassword}
}

// run calls the nodes for some time, with n numbers at once.
func (c *cluster) run(t *testing.T, d time.Duration, numbers int) {
	t.Helper()
	w := &workload{cluster: c, numbers: c.numbers}
	c.provider.received = w.received
	end := time.Now().Add(d)
	var all sync.WaitGroup
	for range numbers {
		all.Go(func() {
			for time.Now().Before(end) {
				w.live(w.newNumber(), end)
			}
		})
	}
	all.Wait()
	c.provider.serving.Lock()
	c.provider.serving.Unlock() //nolint:gocritic,staticcheck // it only waits
	w.readOwners(t)
}

func (w *workload) newNumber() *number {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := &number{id: len(w.numbers)}
	w.numbers[n.id] = n
	return n
}

// received stores the code of an SMS.
func (w *workload) received(c *call) {
	w.mu.Lock()
	n := w.numbers[c.number]
	w.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	k := &n.sessions[c.session]
	if !slices.Contains(k.codes, c.code) {
		k.codes = append(k.codes, c.code)
	}
}

// live makes all calls for one number. At the end, it looks up each session.
func (w *workload) live(n *number, end time.Time) {
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for n.goesOn() && time.Now().Before(end) {
				w.callAny(n)
			}
		})
	}
	all.Wait()
	for s := range n.sessions {
		if n.sessions[s].sid != "" {
			w.lookUp(n, s, validated)
		}
	}
}

func (n *number) goesOn() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	return n.calls <= maxCalls && n.unknown < maxUnknown
}

// callAny makes one call, or two or three concurrently, because many failures need concurrency.
func (w *workload) callAny(n *number) {
	calls := []func(){w.choose(n)}
	switch rand.IntN(6) {
	case 0:
		calls = append(calls, w.choose(n))
	case 1:
		calls = append(calls, calls[0])
	case 2:
		calls = append(calls, calls[0], w.choose(n))
	}
	var all sync.WaitGroup
	for _, call := range calls {
		all.Go(call)
	}
	all.Wait()
}

// choose returns a call with its arguments, so that it can be made twice.
func (w *workload) choose(n *number) func() {
	s, user := rand.IntN(maxSessions), 1+rand.IntN(users)
	n.mu.Lock()
	if purposes()[s] == store.PurposePassword && !n.owned && rand.IntN(10) > 0 {
		s = 0
	}
	k := n.sessions[s]
	n.mu.Unlock()
	op := w.mix.choose()
	if k.sid == "" || op == submitToken && len(k.codes) == 0 {
		op = requestToken
	}
	switch op {
	case submitToken:
		code := w.chooseCode(k.codes)
		return func() { w.submit(n, s, code) }
	case redeem, validated:
		return func() { w.lookUp(n, s, op) }
	case addNumber:
		if purposes()[s] != store.PurposeAdd {
			s = 0
		}
		return func() { w.add(n, s, user) }
	case removeNumber:
		return func() { w.remove(n, user) }
	case release:
		return func() { w.release(n) }
	default:
		attempt := max(1, k.attempt)
		if rand.IntN(5) < 2 {
			attempt = min(k.attempt+1, maxAttempts)
		}
		return func() { w.request(n, s, attempt) }
	}
}

// chooseCode mostly returns the latest code, and otherwise an older or a wrong one.
func (w *workload) chooseCode(codes []string) string {
	switch rand.IntN(8) {
	case 0:
		return codes[rand.IntN(len(codes))]
	case 1, 2:
		for {
			if wrong := fmt.Sprintf("%06d", rand.IntN(1_000_000)); !slices.Contains(codes, wrong) {
				return wrong
			}
		}
	default:
		return codes[len(codes)-1]
	}
}

// record makes a call to any node and records it, unless it did not reach the node or has no
// meaning. make returns the result.
func (w *workload) record(n *number, c call, make func(ctx context.Context, nodeURL string, c *call) (result, error)) {
	nodes := w.alive()
	chosen := nodes[rand.IntN(len(nodes))]
	timeout := callTimeout
	switch chance := rand.IntN(60); {
	case chance == 0:
		timeout = hangUpTimeout
	case chance < 20:
		timeout = patience
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c.node, c.number = chosen.id, n.id
	c.begin = w.history.now()
	var err error
	c.result, err = make(ctx, chosen.url, &c)
	c.end = w.history.now()
	if err != nil {
		if errors.Is(err, errNotConnected) {
			return
		}
		c.result, c.detail = unknown, err.Error()
	}
	if c.result == unavailable {
		return
	}
	n.learn(c)
	w.history.add(&c)
}

func (n *number) learn(c call) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.result == unknown && c.op != validated {
		n.unknown++
	}
	n.owned = n.owned || c.op == addNumber && c.result == ok
}

// readOwners reads the owner of each number after all calls.
func (w *workload) readOwners(t *testing.T) {
	t.Helper()
	accounts, closeStore, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	defer closeStore()
	for id := range w.numbers {
		c := &call{op: ownerOf, number: id, begin: w.history.now(), result: ok}
		name, err := accounts.Owner(context.Background(), phoneNumber(id)[1:])
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		for user := 1; user <= users; user++ {
			if name == userName(user) {
				c.user = user
			}
		}
		c.end = w.history.now()
		w.history.add(c)
	}
}

func phoneNumber(id int) string { return fmt.Sprintf("%s%04d", numberPrefix, id) }

func userName(user int) string { return fmt.Sprintf("user-%d", user) }

func secretOf(n *number, session int) string {
	return fmt.Sprintf("number-%d-session-%d", n.id, session)
}
