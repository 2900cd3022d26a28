// Command simulation simulates days of attackers and of honest people with the plugin, on a
// simulated clock, and prints the figures of docs/LIMITS.md. It runs in memory and takes about a
// minute.
//
//	go run ./test/simulation
package main

import (
	"fmt"
	"os"

	"github.com/gin-gonic/gin"
)

func main() {
	gin.SetMode(gin.ReleaseMode)
	if err := run(os.Stdout, full); err != nil {
		fmt.Fprintln(os.Stderr, "simulation:", err)
		os.Exit(1)
	}
}

// size is the size of the simulation.
type size struct {
	numbers  int // of the pump
	users    int // honest people
	clients  int // of the pump
	guessers int // clients of the attacker who guesses
	days     int // days of guessing
}

//nolint:gochecknoglobals // constants
var (
	full  = size{numbers: 10_000, users: 10_000, clients: 500, guessers: 100, days: 7}
	small = size{numbers: 3_000, users: 1_500, clients: 100, guessers: 20, days: 2}
)
