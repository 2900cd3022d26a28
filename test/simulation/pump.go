package main

import (
	"fmt"
	"time"
)

// pump is an attacker who causes SMS to numbers that nobody reads.
type pump struct {
	*world
	number  func(i int) string
	numbers int
	fresh   bool // each try uses a new address
	next    int
	tries   int
	texts   int       // SMS that were sent
	pays    bool      // pays for CAPTCHAs
	paid    int       // CAPTCHAs paid for
	free    time.Time // when the next one can be solved
}

// pumpPause is the pause of each of the pump's clients between tries.
const pumpPause = 10 * time.Minute

// start starts all clients within one pause. Each requests an SMS to the next number, whichever
// client used the previous one.
func (p *pump) start(clients int) {
	for i := range clients {
		client := fmt.Sprintf("100.%d.%d.7", i/250, i%250) // each in a network of its own
		p.in(p.between(0, pumpPause), func() { p.try(client) })
	}
}

func (p *pump) try(client string) {
	from := client
	if p.tries++; p.fresh {
		from = fmt.Sprintf("3fff:0:%x:%x::1", p.tries>>16, p.tries&0xffff) // RFC 9637; two networks of /48 a day
	}
	if p.send(from) {
		p.texts++
	}
	p.next = (p.next + 1) % p.numbers
	p.in(pumpPause, func() { p.try(client) })
}

// send requests an SMS to the next number, and reports whether it is sent.
func (p *pump) send(from string) bool {
	if !p.pays || p.now().Before(p.free) {
		return p.ask(from, p.secret(), p.number(p.next), 1).status == 200
	}
	a, solved := p.askSolving(from, p.secret(), p.number(p.next), 1)
	if solved {
		p.paid++
		p.free = p.now().Add(solvingPause)
	}
	return a.status == 200
}

// threeRanges returns numbers of three ranges of British mobile numbers, in order or, with a step,
// mixed.
func threeRanges(numbers, step int) func(i int) string {
	ranges := []string{"+44740012", "+44752134", "+44779056"}
	each := numbers/len(ranges) + 1
	return func(i int) string {
		i = i * step % (each * len(ranges))
		return fmt.Sprintf("%s%04d", ranges[i/each], i%each)
	}
}

// anyRange returns numbers from all British mobile ranges.
func (w *world) anyRange(int) string { return w.mobile() }

// mobile returns a random British mobile number.
func (w *world) mobile() string {
	ranges := []string{"+44740", "+44741", "+44752", "+44757", "+44771", "+44774", "+44779", "+44780", "+44785", "+44791"}
	return fmt.Sprintf("%s%07d", ranges[w.dice.IntN(len(ranges))], w.dice.IntN(10_000_000))
}
