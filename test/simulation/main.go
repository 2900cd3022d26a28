// Command simulation plays days of attackers and of honest people against the
// plugin, on a clock of its own, and prints what got through: the figures of
// docs/LIMITS.md. It runs in memory and takes a minute or so.
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

// size is how much is played.
type size struct {
	numbers  int // of the pump
	users    int // honest ones
	clients  int // of the pump
	guessers int // clients of the attacker who guesses
	days     int // of guessing
}

//nolint:gochecknoglobals // constants
var (
	full  = size{numbers: 10_000, users: 10_000, clients: 500, guessers: 100, days: 7}
	small = size{numbers: 3_000, users: 1_500, clients: 100, guessers: 20, days: 2}
)
