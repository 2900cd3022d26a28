package history_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
)

// handover is the body that a node posts to the provider.
type handover struct {
	Node     int
	Deadline time.Time // until when the node waits
	Message  sms.Message
}

// senderTo returns a node's sender, which posts to the provider. It returns the errors that the
// sender of a real provider returns.
func senderTo(url string, node int) sms.Sender {
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		deadline, _ := ctx.Deadline()
		err := handOver(ctx, url, handover{node, deadline, m})
		if ctx.Err() != nil || errors.Is(err, sms.ErrUncertain) {
			reportLost(url, node, m.ID)
		}
		return err
	})
}

func handOver(ctx context.Context, url string, h handover) error {
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", sms.ErrUncertain, err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	switch res.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusGatewayTimeout:
		return sms.ErrUncertain
	default:
		return errors.New("the provider is down")
	}
}

// lostPath is the path at which a node reports that it does not know whether an SMS was sent.
const lostPath = "/lost"

// reportLost reports that a node does not know whether an SMS was sent. The provider cannot know
// this: its response may arrive late although it was written in time.
func reportLost(url string, node int, messageID string) {
	query := neturl.Values{"node": {strconv.Itoa(node)}, "message": {messageID}}
	res, err := http.Post(url+lostPath+"?"+query.Encode(), "", nil)
	if err == nil {
		_ = res.Body.Close()
	}
}

// provider accepts or refuses SMS, and records each.
type provider struct {
	url      string
	history  *history
	received func(*call) // called for each accepted SMS
	mood     func() mood

	serving sync.RWMutex // read-locked by calls that are not in the history yet
}

// mood is how the provider handles one SMS.
type mood struct {
	delay  time.Duration
	accept bool
	status int           // of its response
	stalls time.Duration // between the decision and the response, as on a busy machine
}

// anyMood mostly accepts at once.
func anyMood() mood {
	delay := rand.N(15 * time.Millisecond)
	switch rand.N(25) {
	case 0:
		return mood{delay: delay, status: http.StatusServiceUnavailable}
	case 1:
		return mood{delay: delay, accept: true, status: http.StatusGatewayTimeout} // it accepts and then fails
	case 2:
		return mood{delay: sendTimeout + 300*time.Millisecond, accept: true, status: http.StatusOK} // the node does not wait for that
	case 3, 4:
		return mood{delay: sendTimeout / 3, accept: true, status: http.StatusOK}
	case 5:
		return mood{delay: delay, accept: true, status: http.StatusOK, stalls: sendTimeout + 300*time.Millisecond}
	default:
		return mood{delay: delay, accept: true, status: http.StatusOK}
	}
}

func startProvider(t *testing.T, h *history) *provider {
	t.Helper()
	p := &provider{history: h, received: func(*call) {}, mood: anyMood}
	mux := http.NewServeMux()
	mux.HandleFunc("/", p.serve)
	mux.HandleFunc(lostPath, p.lost)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// lost records that a node does not know whether the SMS of a message was sent.
func (p *provider) lost(_ http.ResponseWriter, r *http.Request) {
	p.serving.RLock()
	defer p.serving.RUnlock()
	node, _ := strconv.Atoi(r.FormValue("node"))
	p.history.lose(node, r.FormValue("message"))
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	p.serving.RLock()
	defer p.serving.RUnlock()
	var h handover
	if err := json.NewDecoder(r.Body).Decode(&h); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	// On a busy machine, the node may have given up already. Then nothing is sent.
	begin, deadline := p.history.now(), h.Deadline.Sub(p.history.start)
	late := begin > deadline
	c := &call{
		op: sendSMS, node: h.Node, begin: min(begin, deadline), result: notSent,
		session: int(h.Message.Attempt / attemptsPerSession), attempt: int(h.Message.Attempt % attemptsPerSession),
		code: smstest.Token(h.Message), messageID: h.Message.ID,
	}
	c.number, _ = strconv.Atoi(h.Message.To[len(numberPrefix):])
	m := p.mood()
	m.accept = m.accept && !late
	time.Sleep(m.delay)
	c.end = p.history.now()
	if m.accept {
		c.result = ok
	}
	if c.end > deadline || m.status != http.StatusOK || r.Context().Err() != nil {
		c.lost, c.lostAt = true, min(c.end, deadline)
		c.detail = fmt.Sprintf("(the node is told %d after %v)", m.status, m.delay.Round(time.Millisecond))
	}
	p.history.add(c)
	if m.accept {
		p.received(c)
	}
	time.Sleep(m.stalls)
	w.WriteHeader(m.status)
}
