package history_test

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// operation is the kind of a call.
type operation string

const (
	requestToken operation = "requestToken"
	submitToken  operation = "submitToken"
	validated    operation = "Validated"
	redeem       operation = "Redeem"
	addNumber    operation = "add"
	removeNumber operation = "remove"
	release      operation = "release"
	ownerOf      operation = "owner"   // read from the database at the end
	sendSMS      operation = "sendSMS" // a node calls the provider
)

// result is the outcome of a call.
type result string

const (
	ok           result = "ok"
	inUse        result = "in use"
	notInUse     result = "not in use"
	wrongCode    result = "wrong code"
	expired      result = "expired"
	noSession    result = "no session"
	notValidated result = "not validated"
	refused      result = "refused"
	noAccount    result = "no account"
	notSent      result = "not sent" // of requestToken: 502; of sendSMS: the provider did not accept
	unavailable  result = "unavailable"
	unknown      result = "unknown" // no response, or an internal error: it may take effect at any time
)

// never is the end of a call without a result.
const never = time.Duration(math.MaxInt64)

// call is one call, or one SMS. Times are relative to the start of the history.
type call struct {
	op      operation
	node    int
	number  int
	session int
	attempt int
	code    string
	user    int // the user who adds or removes, or the owner that was read
	begin   time.Duration
	end     time.Duration
	result  result

	sid       string        // of a 200
	messageID string        // of an SMS
	lost      bool          // the SMS was accepted, but the node does not know that
	lostAt    time.Duration // the earliest time at which the node may send again
	detail    string        // for people to read
}

func (c *call) String() string {
	return fmt.Sprintf("%9.3fs to %9.3fs  node %d  number %d session %d attempt %d  %-12s code %q user %d: %s %s",
		c.begin.Seconds(), c.end.Seconds(), c.node, c.number, c.session, c.attempt, c.op, c.code, c.user, c.result, c.detail)
}

// overlaps reports whether both calls are in progress at some instant.
func (c *call) overlaps(other *call) bool { return c.begin <= other.end && other.begin <= c.end }

// fault is a time in which a node is unreliable.
type fault struct {
	node       int
	kind       string
	begin, end time.Duration
}

// history is everything that was recorded.
type history struct {
	start   time.Time
	offsets func(node int) time.Duration // of the nodes' clocks

	mu     sync.Mutex
	calls  []*call
	faults []fault
}

func newHistory() *history { return &history{start: time.Now()} }

func (h *history) now() time.Duration { return time.Since(h.start) }

func (h *history) add(c *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
}

// lose records that a node does not know whether the SMS of a message was sent, because the
// provider's response was late.
func (h *history) lose(node int, messageID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.calls {
		if c.op == sendSMS && c.node == node && c.messageID == messageID && !c.lost {
			c.lost, c.lostAt = true, c.end
		}
	}
}

// fault records that a node is unreliable until the returned function is called.
func (h *history) fault(node int, kind string) (end func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := len(h.faults)
	h.faults = append(h.faults, fault{node: node, kind: kind, begin: h.now(), end: never})
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.faults[i].end = h.now()
	}
}

// byNumber returns the calls of each number.
func (h *history) byNumber() map[int][]*call {
	h.mu.Lock()
	defer h.mu.Unlock()
	numbers := map[int][]*call{}
	for _, c := range h.calls {
		numbers[c.number] = append(numbers[c.number], c)
	}
	return numbers
}
