package main

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxGuessers is how many clients with wrong tokens are remembered. If there are more in a minute, the
// tokens of others are not compared.
const maxGuessers = 10_000

// guesses bounds how many wrong tokens a client can try, so that others can still log in. A client is
// an IPv4 address, or the /64 of an IPv6 address.
type guesses struct {
	most int // wrong ones of a client in a minute
	now  func() time.Time

	mu     sync.Mutex
	minute int64
	wrong  map[netip.Prefix]int // in that minute
}

func newGuesses(most int, now func() time.Time) *guesses {
	return &guesses{most: most, now: now, wrong: make(map[netip.Prefix]int)}
}

// try calls compare, unless too many tokens of the request's client were wrong in this minute.
func (g *guesses) try(r *http.Request, compare func() bool) (right, compared bool) {
	client := clientOf(r)
	g.mu.Lock()
	defer g.mu.Unlock()
	if minute := g.now().Unix() / 60; minute != g.minute {
		g.minute = minute
		clear(g.wrong)
	}
	n, known := g.wrong[client]
	if n >= g.most || !known && len(g.wrong) >= maxGuessers {
		return false, false
	}
	if right = compare(); !right {
		g.wrong[client]++
	}
	return right, true
}

// clientOf returns the network of the client that sent a request; the zero Prefix if it is not known.
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
