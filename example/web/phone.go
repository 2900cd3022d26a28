package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/nyaruka/phonenumbers"

	"example.com/threepid/sms"
)

// A Phone keeps at most maxMessages SMS and serves at most maxScreens pages at once.
const (
	maxMessages = 20
	maxScreens  = 16
	textsKept   = 10 * time.Minute // the lifetime of a code

	// keepAlive is how often a stream sends something, so that a broken connection is detected.
	// writeTimeout limits one write.
	keepAlive    = 20 * time.Second
	writeTimeout = 10 * time.Second
)

// text is an SMS as the page shows it.
type text struct {
	ID   int64  `json:"-"` // Unix milliseconds, increased if necessary to be unique
	At   int64  `json:"at"`
	To   string `json:"to"`
	Text string `json:"text"`
}

// Phone shows the SMS that a Sender accepted, on all open pages. Every user of this machine can read
// them, and so can read the codes: use a Phone only with a console sender and a loopback address. A
// Phone refuses requests with another host name, from another site or through a proxy, so that a
// website in a browser on this machine cannot read the codes.
type Phone struct {
	mu      sync.Mutex
	texts   []text
	screens map[chan struct{}]bool
	done    chan struct{}
	closing sync.Once
}

// NewPhone returns a Phone without SMS.
func NewPhone() *Phone {
	return &Phone{screens: map[chan struct{}]bool{}, done: make(chan struct{})}
}

// Close ends all streams, so that a server can shut down.
func (p *Phone) Close() { p.closing.Do(func() { close(p.done) }) }

// Sender returns a sender that passes each SMS to next, and shows it if next accepts it.
func (p *Phone) Sender(next sms.Sender) sms.Sender {
	return sms.Func(func(ctx context.Context, m sms.Message) error {
		if err := next.Send(ctx, m); err != nil {
			return err
		}
		p.show(m, time.Now())
		return nil
	})
}

func (p *Phone) show(m sms.Message, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := text{ID: now.UnixMilli(), At: now.UnixMilli(), To: m.To, Text: m.Text}
	if number, err := phonenumbers.Parse(m.To, ""); err == nil {
		t.To = phonenumbers.Format(number, phonenumbers.INTERNATIONAL)
	}
	if last := len(p.texts) - 1; last >= 0 {
		t.ID = max(t.ID, p.texts[last].ID+1)
	}
	p.texts = append(p.texts, t)
	p.texts = slices.Delete(p.texts, 0, max(0, len(p.texts)-maxMessages))
	for screen := range p.screens {
		select {
		case screen <- struct{}{}:
		default: // a wake-up is pending already, and includes this SMS
		}
	}
}

// since returns the SMS whose ID is greater than id. It first deletes those whose code has expired.
func (p *Phone) since(id int64, now time.Time) []text {
	p.mu.Lock()
	defer p.mu.Unlock()
	oldest := now.Add(-textsKept).UnixMilli()
	p.texts = slices.DeleteFunc(p.texts, func(t text) bool { return t.At < oldest })
	var news []text
	for _, t := range p.texts {
		if t.ID > id {
			news = append(news, t)
		}
	}
	return news
}

// join adds a screen, unless there are maxScreens already.
func (p *Phone) join() (screen chan struct{}, joined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.screens) >= maxScreens {
		return nil, false
	}
	screen = make(chan struct{}, 1)
	p.screens[screen] = true
	return screen, true
}

func (p *Phone) leave(screen chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.screens, screen)
}

// serve streams SMS as Server-Sent Events until the page or the Phone is closed.
func (p *Phone) serve(c *gin.Context) {
	if !local(c.Request) {
		writeJSON(c, http.StatusForbidden, gin.H{"error": "Only this machine can see the phone"})
		return
	}
	screen, joined := p.join()
	if !joined {
		c.Header("Retry-After", "30")
		writeJSON(c, http.StatusServiceUnavailable, gin.H{"error": "Too many pages are open that show the phone"})
		return
	}
	defer p.leave(screen)
	c.Header("Content-Type", "text/event-stream")
	last, _ := strconv.ParseInt(c.GetHeader("Last-Event-ID"), 10, 64) // 0, and so all SMS, if there is none
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		news := p.since(last, time.Now())
		if err := write(c.Writer, news); err != nil {
			return
		}
		if len(news) > 0 {
			last = news[len(news)-1].ID
		}
		select {
		case <-screen:
		case <-alive.C:
		case <-c.Request.Context().Done():
			return
		case <-p.done:
			return
		}
	}
}

// write sends SMS, or a comment if there are none, within writeTimeout.
func write(w gin.ResponseWriter, texts []text) error {
	control := http.NewResponseController(w)
	if err := control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	event := ":\n\n"
	if len(texts) > 0 {
		event = ""
	}
	for _, t := range texts {
		data, err := json.Marshal(t)
		if err != nil {
			return err
		}
		event += fmt.Sprintf("id: %d\ndata: %s\n\n", t.ID, data)
	}
	if _, err := w.WriteString(event); err != nil {
		return err
	}
	return control.Flush()
}

// local reports whether a request comes directly from this machine, and not from a page
// of another site. The Host must be a loopback name or address, which rules out DNS
// rebinding, and there must be no headers of a proxy.
func local(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return false
	}
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		return false
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return isLoopback(host) && isLoopback(hostOf(r.RemoteAddr))
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(trimBrackets(host))
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}
