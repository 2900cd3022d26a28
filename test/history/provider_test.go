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
	"strconv"
	"sync"
	"testing"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
)

// handover is what a node posts to the provider.
type handover struct {
	Node    int
	Message sms.Message
}

// senderTo returns a sender of a node that posts to the provider. It says of an SMS
// what a sender of a real provider says.
func senderTo(url string, node int) sms.Sender {
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		body, err := json.Marshal(handover{node, m})
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
	})
}

// provider accepts SMS, or fails, and records each.
type provider struct {
	url      string
	history  *history
	received func(*call) // is called for each SMS that was accepted
	mood     func() mood

	serving sync.RWMutex // read-locked by calls of which history does not have the end yet
}

// mood is how the provider treats one SMS.
type mood struct {
	delay  time.Duration
	accept bool
	status int // of its response
}

// anyMood mostly accepts at once.
func anyMood() mood {
	delay := rand.N(15 * time.Millisecond)
	switch rand.N(25) {
	case 0:
		return mood{delay, false, http.StatusServiceUnavailable}
	case 1:
		return mood{delay, true, http.StatusGatewayTimeout} // it accepts, and fails after that
	case 2:
		return mood{sendTimeout + 300*time.Millisecond, true, http.StatusOK} // the node does not wait for that
	case 3, 4:
		return mood{sendTimeout / 3, true, http.StatusOK}
	default:
		return mood{delay, true, http.StatusOK}
	}
}

func startProvider(t *testing.T, h *history) *provider {
	t.Helper()
	p := &provider{history: h, received: func(*call) {}, mood: anyMood}
	server := httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	begin := p.history.now()
	p.serving.RLock()
	defer p.serving.RUnlock()
	var h handover
	if err := json.NewDecoder(r.Body).Decode(&h); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c := &call{
		op: sendSMS, node: h.Node, begin: begin, result: notSent,
		session: int(h.Message.Attempt / attemptsPerSession), attempt: int(h.Message.Attempt % attemptsPerSession),
		code: smstest.Token(h.Message), messageID: h.Message.ID,
	}
	c.number, _ = strconv.Atoi(h.Message.To[len(numberPrefix):])
	m := p.mood()
	time.Sleep(m.delay)
	c.end = p.history.now()
	if m.accept {
		c.result = ok
	}
	// The node began to wait before the provider began to serve.
	const slack = 200 * time.Millisecond
	if late := c.end-c.begin > sendTimeout-slack; late || m.status != http.StatusOK || r.Context().Err() != nil {
		c.lost, c.lostAt = true, c.end
		if late {
			c.lostAt = c.begin + sendTimeout - slack
		}
		c.detail = fmt.Sprintf("(the node is told %d after %v)", m.status, m.delay.Round(time.Millisecond))
	}
	p.history.add(c)
	if m.accept {
		p.received(c)
	}
	w.WriteHeader(m.status)
}
