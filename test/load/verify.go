package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	addPath      = "/_api/client/v3/account/3pid/msisdn/requestToken"
	submitPath   = "/_api/client/v3/account/3pid/msisdn/submitToken"
	passwordPath = "/_api/client/v3/account/password/msisdn/requestToken"
)

// work is what the callers of a measurement repeat. Its do returns an error if a response is not
// the expected one.
type work struct {
	name string
	do   func(c *client, caller, n int) error
}

// workNames are the kinds of work, in the order of measurement.
func workNames() []string {
	return []string{"verification", "fresh", "retry", "no number", "no account"}
}

// newWork returns a kind of work with unused secrets. Only a complete verification takes codes from
// the provider.
func newWork(name string, p *provider) work {
	run := time.Now().UnixNano()
	switch name {
	case "verification":
		return verification(run, p)
	case "retry":
		return retry(run)
	case "no number":
		return noNumber()
	case "no account":
		return noAccount()
	default:
		return fresh(run)
	}
}

// verification requests a code, as a new client and for a number in a rarely used range, takes the
// code from the provider, and submits it.
func verification(run int64, p *provider) work {
	return work{"verification", func(c *client, caller, n int) error {
		number := numberOf(caller, n)
		secret := fmt.Sprintf("v%d.%d.%d", run, caller, n)
		c.from = anyAddress()
		answer, err := c.expect(http.StatusOK, addPath, body(secret, number))
		if err != nil {
			return err
		}
		var session struct{ SID string }
		if err := json.Unmarshal(answer, &session); err != nil || session.SID == "" {
			return errors.New("requestToken returned no sid")
		}
		code, err := p.take("+44" + number[1:])
		if err != nil {
			return err
		}
		_, err = c.expect(http.StatusOK, submitPath,
			fmt.Appendf(nil, `{"sid":"%s","client_secret":"%s","token":"%s"}`, session.SID, secret, code))
		return err
	}}
}

// fresh is an attempt that is new to the server: it is claimed, sent and recorded, but never
// confirmed. The guard treats many of these as an attack, correctly: measure them with -guard
// observe, or with -limits off.
func fresh(run int64) work {
	return work{"fresh", func(c *client, caller, n int) error {
		c.from = anyAddress()
		_, err := c.expect(http.StatusOK, addPath, body(fmt.Sprintf("s%d.%d.%d", run, caller, n), numberOf(caller, n)))
		return err
	}}
}

// retry is an attempt that was sent before.
func retry(run int64) work {
	return work{"retry", func(c *client, caller, _ int) error {
		c.from = anyAddress()
		_, err := c.expect(http.StatusOK, addPath, body(fmt.Sprintf("r%d.%d", run, caller), numberOf(caller, 0)))
		return err
	}}
}

// noNumber sends a phone_number that is much too short.
func noNumber() work {
	return work{"no number", func(c *client, caller, n int) error {
		_, err := c.expect(http.StatusBadRequest, addPath, body(fmt.Sprintf("s%d.%d", caller, n), "12"))
		return err
	}}
}

// noAccount requests a password reset for a number that has no account.
func noAccount() work {
	return work{"no account", func(c *client, caller, _ int) error {
		c.from = anyAddress()
		_, err := c.expect(http.StatusBadRequest, passwordPath, body(fmt.Sprintf("p%d", caller), numberOf(caller, 0)))
		return err
	}}
}

// numberOf returns a mobile number of the United Kingdom. Callers do not share numbers. A caller's
// numbers are in distant ranges of 10,000, because the limits allow few unconfirmed numbers of one
// range, and repeat after a million.
func numberOf(caller, n int) string {
	const all, apart, step = 600_000_000, 4_000_003, 10_007
	return fmt.Sprintf("07%09d", 400_000_000+(caller*apart+n%1_000_000*step)%all)
}

// anyAddress returns the address of a client that is probably new to the server, in a network that
// is almost new.
func anyAddress() string {
	const hosts = 1 << 24
	n := rand.N(hosts)
	return fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&0xff, n&0xff)
}

func body(clientSecret, number string) []byte {
	return fmt.Appendf(nil, `{"client_secret":"%s","country":"GB","phone_number":"%s","send_attempt":1}`, clientSecret, number)
}
