package main

import (
	"fmt"
	"io"
	"time"

	"example.com/threepid"
)

const (
	burstRequests = 3_000 // at one instant
	burstOpenings = 6
	burstPause    = 12 * time.Hour // the duration of the longest block
)

// playBurst simulates an attacker with an IPv6 /48 who requests SMS to numbers all over the country
// as fast as possible, and again after each block. It returns the number of SMS each time.
func playBurst(nodes int) ([]int, error) {
	w, err := newNodes(4, nodes, func(*threepid.Options) {})
	if err != nil {
		return nil, err
	}
	var sent []int
	next := 0
	for opening := range burstOpenings {
		sent = append(sent, 0)
		w.in(time.Duration(opening)*burstPause, func() {
			for range burstRequests {
				next++
				w.router = w.nodes[next%nodes].router
				if w.ask(fmt.Sprintf("2001:db8:77:%x::1", next%65536), w.secret(), w.mobile(), 1).status == 200 {
					sent[opening]++
				}
			}
		})
	}
	w.play(burstOpenings * burstPause)
	return sent, nil
}

func reportBursts(out io.Writer) error {
	_, _ = fmt.Fprintf(out, "\n%d requests at one instant from one IPv6 /48 for numbers all over the country, and again every %v.\n\n", burstRequests, burstPause)
	_, _ = fmt.Fprintln(out, "| nodes | SMS each time |")
	_, _ = fmt.Fprintln(out, "| ---: | --- |")
	for _, nodes := range []int{1, 3} {
		sent, err := playBurst(nodes)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(out, "| %d | %v |\n", nodes, sent)
	}
	return nil
}
