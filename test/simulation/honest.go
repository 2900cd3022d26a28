package main

import (
	"fmt"
	"math"
	"net/http"
	"time"
)

// crowd is the honest people, each with one number to validate.
type crowd struct {
	*world
	people    int
	texts     int
	validated int
	refused   int // people who were refused at least once

	refusedSolving int // refused people who solve CAPTCHAs
}

// person is one person of the crowd.
type person struct {
	client, secret, number, sid string
	attempt                     int
	refused                     bool
	solves                      bool // solves CAPTCHAs
}

// start distributes people over a day, few at night and many in the evening.
func (c *crowd) start(people int) {
	c.people = people
	for i := range people {
		p := &person{client: c.address(i), secret: c.secret(), number: c.mobile(), solves: i%100 < peopleSolve}
		c.in(c.timeOfDay(), func() { c.ask(p) })
	}
}

// address returns a person's address: for one in five, that of a carrier, which fifty people share;
// for one in five, an IPv6 address; otherwise an address of their own.
func (c *crowd) address(i int) string {
	switch i % 5 {
	case 0:
		return fmt.Sprintf("192.0.2.%d", i/250%250)
	case 1:
		return fmt.Sprintf("2001:db8:%x:%x::%x", i/65536, i%65536, i)
	}
	return fmt.Sprintf("10.%d.%d.%d", i/65536, i/256%256, i%256)
}

// timeOfDay returns a random time, weighted by the usual activity.
func (c *crowd) timeOfDay() time.Duration {
	for {
		d := c.between(0, 24*time.Hour)
		if c.dice.Float64() < 0.55-0.45*math.Cos((d.Hours()-6)/24*2*math.Pi) {
			return d
		}
	}
}

func (c *crowd) ask(p *person) {
	p.attempt++
	a := c.world.ask(p.client, p.secret, p.number, p.attempt)
	if p.solves && a.status == http.StatusForbidden {
		a, _ = c.askSolving(p.client, p.secret, p.number, p.attempt)
	}
	if a.status != 200 {
		c.turnedAway(p)
		p.attempt--
		if p.attempt == 0 && a.status == http.StatusTooManyRequests && a.retryAfter() < time.Hour {
			c.in(a.retryAfter(), func() { c.ask(p) })
		}
		return
	}
	c.texts++
	p.sid = a.SID
	const validates = 70
	switch n := c.dice.IntN(100); {
	case p.attempt == 1 && n < 15, p.attempt == 2 && n < 30, p.attempt == 3 && n < 30: // the SMS is late
		c.in(c.between(30*time.Second, 90*time.Second), func() { c.ask(p) })
	case c.chance(validates):
		c.in(c.between(20*time.Second, 2*time.Minute), func() { c.submit(p) })
	}
}

func (c *crowd) submit(p *person) {
	const mistypes = 5
	code := c.code(p.number)
	if c.chance(mistypes) {
		code = "mistyped"
	}
	switch a := c.world.submit(p.client, p.secret, p.sid, code); {
	case a.status == 200:
		c.validated++
	case a.ErrCode == "M_TOKEN_INCORRECT":
		c.in(10*time.Second, func() { c.submit(p) })
	case a.ErrCode == "M_LIMIT_EXCEEDED":
		c.turnedAway(p)
	}
}

func (c *crowd) turnedAway(p *person) {
	if !p.refused {
		c.refused++
		if p.solves {
			c.refusedSolving++
		}
	}
	p.refused = true
}
