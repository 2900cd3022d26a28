package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
)

// The assumptions about CAPTCHAs: most people solve one, and an attacker pays 2 USD for a thousand,
// solved at one per second.
const (
	peopleSolve   = 90 // percent
	usdPerCAPTCHA = 0.002
	solvingPause  = time.Second
)

// stepUp requests a CAPTCHA where the guard blocks, and trusts a request with a solved one.
func stepUp(o *threepid.Options) {
	o.Policy.Approve = func(_ context.Context, r limits.ApprovalRequest) (limits.Approval, error) {
		switch {
		case r.Header.Get("X-Captcha") != "":
			return limits.Trusted, nil
		case len(r.Blocks) > 0:
			return limits.Approved, limits.ErrDenied
		}
		return limits.Approved, nil
	}
}

// stepUpDay is the result of a day with honest people, and with a pump all over their country.
type stepUpDay struct {
	pumped, paid     int // the attacker's SMS and CAPTCHAs
	validated        int
	refused, solving int // people who were refused, and those of them who solve CAPTCHAs
}

func playStepUp(pays bool, s size) (stepUpDay, error) {
	w, err := newWorld(1, stepUp)
	if err != nil {
		return stepUpDay{}, err
	}
	attacker, people := &pump{world: w, numbers: s.numbers, number: w.anyRange, pays: pays}, &crowd{world: w}
	attacker.start(s.clients)
	people.start(s.users)
	w.play(day)
	return stepUpDay{attacker.texts, attacker.paid, people.validated, people.refused, people.refusedSolving}, nil
}

func reportStepUp(out io.Writer, s size) error {
	_, _ = fmt.Fprintf(out, "\nThe same day of honest people and a pump all over their country, with CAPTCHAs where the guard blocks; %d %% of people solve them.\n\n", peopleSolve)
	_, _ = fmt.Fprintln(out, "| the attacker | pumped SMS | CAPTCHAs, USD | validated | people refused | of those who solve |")
	_, _ = fmt.Fprintln(out, "| --- | ---: | ---: | ---: | ---: | ---: |")
	for _, pays := range []bool{false, true} {
		d, err := playStepUp(pays, s)
		if err != nil {
			return err
		}
		name := "does not solve CAPTCHAs"
		if pays {
			name = "pays for them"
		}
		_, _ = fmt.Fprintf(out, "| %s | %d | %d, %.0f | %d | %d | %d |\n", name, d.pumped, d.paid, float64(d.paid)*usdPerCAPTCHA, d.validated, d.refused, d.solving)
	}
	return nil
}
