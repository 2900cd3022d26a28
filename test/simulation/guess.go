package main

import (
	"fmt"
	"time"
)

// guesser is an attacker who wants to validate another person's number.
type guesser struct {
	*world
	victim   string
	texts    int
	compared int // codes that were compared
}

// guessPause is the pause of each of the guesser's clients between tries.
const guessPause = 20 * time.Minute

func (g *guesser) start(clients int) {
	for i := range clients {
		client := fmt.Sprintf("203.0.%d.%d", i/250, i%250)
		g.in(g.between(0, guessPause), func() { g.try(client) })
	}
}

// try requests a code in a new session, and guesses until a guess is refused.
func (g *guesser) try(client string) {
	defer g.in(guessPause, func() { g.try(client) })
	secret := g.secret()
	a := g.ask(client, secret, g.victim, 1)
	if a.status != 200 {
		return
	}
	g.texts++
	// The guess is never right here: the simulation counts how many are compared.
	for g.submit(client, secret, a.SID, "guess").ErrCode == "M_TOKEN_INCORRECT" {
		g.compared++
	}
}

// owner lets the victim request a code and submit it every few hours, and counts the failures.
type owner struct {
	*world
	number        string
	tried, failed int
}

func (o *owner) start(every time.Duration) {
	o.in(every, func() {
		o.tried++
		const client = "192.0.2.77"
		secret := o.secret()
		a := o.ask(client, secret, o.number, 1)
		if a.status != 200 || o.submit(client, secret, a.SID, o.code(o.number)).status != 200 {
			o.failed++
		}
		o.start(every)
	})
}
