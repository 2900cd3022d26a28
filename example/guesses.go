package main

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxGuessers is how many clients with wrong tokens are tracked in a minute. Once there are that many,
// tokens of other clients are not compared.
const maxGuessers = 10_000

// guesses limits the wrong tokens of each client. It counts by client, so that other clients can still
// log in. A client is an IPv4 address, or the /64 of an IPv6 address.
type guesses struct {
	limit int // wrong tokens of a client per minute
	now   func() time.Time

	mu     sync.Mutex
	minute int64
	wrong  map[netip.Prefix]int // wrong tokens in that minute
}

func newGuesses(limit int, now func() time.Time) *guesses {
	return &guesses{limit: limit, now: now, wrong: make(map[netip.Prefix]int)}
}

// try calls compare, unless the request's client has sent too many wrong tokens in this minute. compare
// must return at once: other clients wait for it.
func (g *guesses) try(r *http.Request, compare func() bool) (right, compared bool) {
	client := clientOf(r)
	g.mu.Lock()
	defer g.mu.Unlock()
	if minute := g.now().Unix() / 60; minute != g.minute {
		g.minute = minute
		clear(g.wrong)
	}
	n, known := g.wrong[client]
	if n >= g.limit || !known && len(g.wrong) >= maxGuessers {
		return false, false
	}
	if right = compare(); !right {
		g.wrong[client]++
	}
	return right, true
}

// clientOf returns the network of the client that sent a request, or the zero Prefix if it is unknown.
func clientOf(r *http.Request) netip.Prefix {
	address, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{}
	}
	ip := address.Addr().Unmap()
	const subnet = 64
	client, err := ip.Prefix(min(ip.BitLen(), subnet))
	if err != nil {
		return netip.Prefix{}
	}
	return client
}
