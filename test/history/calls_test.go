package history_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/store"
)

// The calls of the workload, and the meaning of their responses.

const basePath = "/_api/client/v3"

// errNotConnected means that the node accepts no connections, so nothing was sent to it.
var errNotConnected = errors.New("the node cannot be reached")

// response is the relevant part of a JSON response.
type response struct {
	Status  int    `json:"-"`
	SID     string `json:"sid"`
	ErrCode string `json:"errcode"`
	Result  result `json:"result"`
}

// post sends a JSON request, for a user if one is given.
func post(ctx context.Context, url string, user int, body any) (response, error) {
	var r response
	encoded, err := json.Marshal(body)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(encoded))
	if err != nil {
		return r, err
	}
	if user != nobody {
		req.Header.Set(userHeader, userName(user))
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
			return r, errNotConnected
		}
		return r, err
	}
	defer func() { _ = res.Body.Close() }()
	r.Status = res.StatusCode
	err = json.NewDecoder(res.Body).Decode(&r)
	return r, err
}

// meaning maps a response to a result. Any other response is an internal error or not part of the
// protocol, so its effect is unknown.
func (r response) meaning(errcodes map[string]result) result {
	if r.Status == http.StatusOK {
		return ok
	}
	if meant, known := errcodes[r.ErrCode]; known {
		return meant
	}
	return unknown
}

func requestPath(p store.Purpose) threepid.Endpoint {
	switch p {
	case store.PurposeRegister:
		return threepid.EndpointRequestTokenRegister
	case store.PurposePassword:
		return threepid.EndpointRequestTokenPassword
	default:
		return threepid.EndpointRequestTokenAdd
	}
}

func (w *workload) request(n *number, s, attempt int) {
	c := call{op: requestToken, session: s, attempt: attempt}
	n.mu.Lock()
	n.sessions[s].attempt = max(n.sessions[s].attempt, attempt)
	n.mu.Unlock()
	w.record(n, c, func(ctx context.Context, nodeURL string, c *call) (result, error) {
		r, err := post(ctx, nodeURL+basePath+string(requestPath(purposes()[s])), nobody, gin.H{
			"client_secret": secretOf(n, s), "country": "GB", "phone_number": phoneNumber(n.id),
			"send_attempt": s*attemptsPerSession + attempt,
		})
		if r.SID != "" {
			c.sid = r.SID
			n.mu.Lock()
			n.sessions[s].sid = r.SID
			n.mu.Unlock()
		}
		c.detail = fmt.Sprint(r.Status, r.ErrCode)
		return r.meaning(map[string]result{
			"M_THREEPID_IN_USE": inUse, "M_THREEPID_NOT_FOUND": notInUse, "M_SEND_ERROR": notSent,
		}), err
	})
}

func (w *workload) submit(n *number, s int, code string) {
	w.record(n, call{op: submitToken, session: s, code: code}, func(ctx context.Context, nodeURL string, c *call) (result, error) {
		r, err := post(ctx, nodeURL+basePath+string(threepid.EndpointSubmitToken), nobody, gin.H{
			"sid": n.sid(s), "client_secret": secretOf(n, s), "token": code,
		})
		c.detail = fmt.Sprint(r.Status, r.ErrCode)
		return r.meaning(map[string]result{
			"M_TOKEN_INCORRECT": wrongCode, "M_SESSION_EXPIRED": expired, "M_INVALID_PARAM": noSession,
		}), err
	})
}

func (w *workload) add(n *number, s, user int) {
	if n.sid(s) == "" {
		return
	}
	w.record(n, call{op: addNumber, session: s, user: user}, func(ctx context.Context, nodeURL string, c *call) (result, error) {
		r, err := post(ctx, nodeURL+basePath+string(threepid.EndpointAddNumber), user, gin.H{
			"sid": n.sid(s), "client_secret": secretOf(n, s),
		})
		c.detail = fmt.Sprint(r.Status, r.ErrCode)
		return r.meaning(map[string]result{"M_THREEPID_IN_USE": inUse, "M_THREEPID_AUTH_FAILED": refused}), err
	})
}

func (w *workload) remove(n *number, user int) {
	if !n.mayRelease() {
		return
	}
	w.record(n, call{op: removeNumber, user: user}, func(ctx context.Context, nodeURL string, c *call) (result, error) {
		r, err := post(ctx, nodeURL+basePath+string(threepid.EndpointDeleteNumber), user, gin.H{
			"medium": "msisdn", "address": phoneNumber(n.id)[1:],
		})
		c.detail = fmt.Sprint(r.Status, r.ErrCode)
		return r.meaning(nil), err
	})
}

func (w *workload) release(n *number) {
	if n.mayRelease() {
		w.record(n, call{op: release}, hostCall{Number: phoneNumber(n.id)}.post)
	}
}

// lookUp calls Validated or Redeem.
func (w *workload) lookUp(n *number, s int, op operation) {
	args := hostCall{SID: n.sid(s), Secret: secretOf(n, s), Purpose: string(purposes()[s])}
	w.record(n, call{op: op, session: s}, args.post)
}

func (h hostCall) post(ctx context.Context, nodeURL string, c *call) (result, error) {
	r, err := post(ctx, nodeURL+"/host/"+string(c.op), nobody, h)
	return r.Result, err
}

func (n *number) sid(session int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sessions[session].sid
}

func (n *number) mayRelease() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.releases++
	return n.releases <= maxReleases
}
