package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"example.com/threepid"
)

const (
	siegePause = time.Hour     // pause of each of the attacker's clients between tries
	ownerPause = 6 * time.Hour // pause of the owner between tries
	siegeDays  = 60
	month      = 30 * day
)

// siege is an attack on one number by a few persistent clients, while the number's owner tries to
// validate it from another address.
type siege struct {
	clients   int
	ownerFrom time.Duration // when the owner tries for the first time
	moving    bool          // the owner uses a new address each time
	silent    bool          // the owner receives no SMS, so that nothing validates

	*world
	sent, compared []time.Time // times of SMS to the number, and of compared codes
	tries, refused int         // the owner's tries and refusals
	row, maxRow    int         // successive refusals
	since          time.Time   // when the first of these refusals was
	longest        time.Duration
}

const besieged = "+447400123456"

// playSiege simulates 60 days of a siege.
func playSiege(s siege, change func(*threepid.Options)) (*siege, error) {
	w, err := newWorld(3, change)
	if err != nil {
		return nil, err
	}
	s.world = w
	for i := range s.clients {
		client := fmt.Sprintf("203.0.%d.%d", 113+i/250, i%250)
		s.in(s.between(0, siegePause), func() { s.attack(client) })
	}
	s.in(s.ownerFrom+s.between(0, ownerPause), s.owner)
	w.play(siegeDays * day)
	return &s, nil
}

// attack requests a code and guesses until a guess is refused.
func (s *siege) attack(client string) {
	defer s.in(siegePause, func() { s.attack(client) })
	secret := s.secret()
	a := s.ask(client, secret, besieged, 1)
	if a.status != 200 {
		return
	}
	s.sent = append(s.sent, s.now())
	for s.submit(client, secret, a.SID, "guess").ErrCode == "M_TOKEN_INCORRECT" {
		s.compared = append(s.compared, s.now())
	}
}

// owner requests a code and submits it.
func (s *siege) owner() {
	defer s.in(ownerPause, s.owner)
	s.tries++
	client := "192.0.2.77"
	if s.moving {
		client = fmt.Sprintf("192.0.%d.%d", s.tries/250, s.tries%250)
	}
	secret := s.secret()
	a := s.ask(client, secret, besieged, 1)
	if a.status == 200 {
		s.sent = append(s.sent, s.now())
	}
	if a.status == 200 && (s.silent || s.submit(client, secret, a.SID, s.code(besieged)).status == 200) {
		s.row = 0
		return
	}
	if s.row == 0 {
		s.since = s.now()
	}
	s.refused++
	s.row++
	s.maxRow = max(s.maxRow, s.row)
	s.longest = max(s.longest, s.now().Add(ownerPause).Sub(s.since))
}

// maxWithin returns the greatest number of times within a span.
func maxWithin(times []time.Time, span time.Duration) int {
	most, first := 0, 0
	for i, at := range times {
		for !at.Before(times[first].Add(span)) {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// reportSieges simulates sieges by more and more clients, and prints them.
func reportSieges(out io.Writer) error {
	_, _ = fmt.Fprintf(out, "\n%d days against one number; its owner tries every %v.\n\n", siegeDays, ownerPause)
	_, _ = fmt.Fprintln(out, "| clients | owner comes | owner refused | in a row | for up to | SMS a day, 30 days | codes compared a day, 30 days |")
	_, _ = fmt.Fprintln(out, "| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
	var sieges []siege
	for _, clients := range []int{1, 10, 12, 15, 20, 50} {
		sieges = append(sieges, siege{clients: clients}, siege{clients: clients, ownerFrom: 45 * day})
	}
	lines, errs := make([]string, len(sieges)), make([]error, len(sieges))
	var wg sync.WaitGroup
	for i := range sieges {
		wg.Go(func() {
			s, err := playSiege(sieges[i], func(*threepid.Options) {})
			if errs[i] = err; err == nil {
				lines[i] = s.line()
			}
		})
	}
	wg.Wait()
	for _, line := range lines {
		_, _ = fmt.Fprintln(out, line)
	}
	return errors.Join(errs...)
}

// line returns the siege's line of the table.
func (s *siege) line() string {
	when := "at once"
	if s.ownerFrom > 0 {
		when = fmt.Sprintf("after %d days", int(s.ownerFrom/day))
	}
	return fmt.Sprintf("| %d | %s | %d of %d | %d | %v h | %d, %d | %d, %d |", s.clients, when, s.refused, s.tries, s.maxRow, s.longest.Hours(),
		maxWithin(s.sent, day), maxWithin(s.sent, month), maxWithin(s.compared, day), maxWithin(s.compared, month))
}
