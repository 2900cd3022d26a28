package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"example.com/threepid"
)

const day = 24 * time.Hour

// setting is a combination of options to compare.
type setting struct {
	name   string
	change func(*threepid.Options)
}

func settings() []setting {
	return []setting{
		{"defaults", func(*threepid.Options) {}},
		{"limits only", func(o *threepid.Options) { o.Guard.Disabled = true }},
		{"nothing", func(o *threepid.Options) { o.Limits.Disabled, o.Guard.Disabled = true, true }},
	}
}

// result is the result of a day.
type result struct {
	pumped, honestTexts, validated, refused int
	blocks                                  int
}

// scenario is a day with a pump, with honest people, or with both.
type scenario struct {
	name   string
	pump   func(w *world, s size) func(i int) string // nil: none
	fresh  bool                                      // the pump uses a new address for each try
	honest bool
}

func scenarios() []scenario {
	inOrder := func(_ *world, s size) func(int) string { return threeRanges(s.numbers, 1) }
	mixed := func(_ *world, s size) func(int) string { return threeRanges(s.numbers, 7919) }
	wide := func(w *world, _ size) func(int) string { return w.anyRange }
	return []scenario{
		{"pump over three ranges, in order", inOrder, false, false},
		{"pump over three ranges, mixed", mixed, false, false},
		{"pump all over the country", wide, false, false},
		{"pump all over the country, each time from a new address", wide, true, false},
		{"honest people", nil, false, true},
		{"honest people, and a pump over three ranges", mixed, false, true},
		{"honest people, and a pump all over their country", wide, false, true},
		{"honest people, and that pump from new addresses", wide, true, true},
	}
}

// playDay simulates a day of a scenario.
func playDay(sc scenario, s size, change func(*threepid.Options)) (result, error) {
	w, err := newWorld(1, change)
	if err != nil {
		return result{}, err
	}
	attacker, people := &pump{world: w, numbers: s.numbers}, &crowd{world: w}
	attacker.fresh = sc.fresh
	if sc.pump != nil {
		attacker.number = sc.pump(w, s)
		attacker.start(s.clients)
	}
	if sc.honest {
		people.start(s.users)
	}
	w.play(day)
	return result{attacker.texts, people.texts, people.validated, people.refused, w.blocks}, nil
}

// playSettings simulates a scenario with each of the settings at the same time.
func playSettings(sc scenario, s size) ([]result, error) {
	results := make([]result, len(settings()))
	errs := make([]error, len(results))
	var wg sync.WaitGroup
	for i, set := range settings() {
		wg.Go(func() { results[i], errs[i] = playDay(sc, s, set.change) })
	}
	wg.Wait()
	return results, errors.Join(errs...)
}

// guessing is the result of days of guessing.
type guessing struct {
	texts, compared, ownerTried, ownerFailed int
}

func playGuessing(clients int, s size, change func(*threepid.Options)) (guessing, error) {
	w, err := newWorld(2, change)
	if err != nil {
		return guessing{}, err
	}
	const victim = "+447400123456"
	g, o := &guesser{world: w, victim: victim}, &owner{world: w, number: victim}
	g.start(clients)
	if clients == 1 { // the owner is protected against one client
		o.start(5 * time.Hour)
	}
	w.play(time.Duration(s.days) * day)
	return guessing{g.texts, g.compared, o.tried, o.failed}, nil
}

// run simulates everything and prints the tables.
func run(out io.Writer, s size) error {
	if err := reportDays(out, s); err != nil {
		return err
	}
	if err := reportBursts(out); err != nil {
		return err
	}
	if err := reportStepUp(out, s); err != nil {
		return err
	}
	if err := reportGuessing(out, s); err != nil {
		return err
	}
	return reportSieges(out)
}

func reportDays(out io.Writer, s size) error {
	_, _ = fmt.Fprintf(out, "A day; the pump has %d numbers and %d clients, each of which tries every %v; %d honest people.\n\n",
		s.numbers, s.clients, pumpPause, s.users)
	_, _ = fmt.Fprintln(out, "| a day of | with | pumped SMS | honest SMS | validated | honest people refused | blocks |")
	_, _ = fmt.Fprintln(out, "| --- | --- | ---: | ---: | ---: | ---: | ---: |")
	for _, sc := range scenarios() {
		results, err := playSettings(sc, s)
		if err != nil {
			return err
		}
		for i, r := range results {
			_, _ = fmt.Fprintf(out, "| %s | %s | %d | %d | %d | %d | %d |\n",
				sc.name, settings()[i].name, r.pumped, r.honestTexts, r.validated, r.refused, r.blocks)
		}
	}
	return nil
}

func reportGuessing(out io.Writer, s size) error {
	_, _ = fmt.Fprintf(out, "\nGuessing for %d days against one number.\n\n", s.days)
	_, _ = fmt.Fprintln(out, "| clients | with | SMS | tries compared | owner could not validate |")
	_, _ = fmt.Fprintln(out, "| ---: | --- | ---: | ---: | --- |")
	for _, clients := range []int{1, s.guessers} {
		for _, set := range slices.Delete(settings(), 1, 2) {
			g, err := playGuessing(clients, s, set.change)
			if err != nil {
				return err
			}
			owner := "not tried"
			if g.ownerTried > 0 {
				owner = fmt.Sprintf("%d of %d times", g.ownerFailed, g.ownerTried)
			}
			_, _ = fmt.Fprintf(out, "| %d | %s | %d | %d | %s |\n", clients, set.name, g.texts, g.compared, owner)
		}
	}
	return nil
}
