// Command loadtest measures how many requests a server of threepid's answers. It
// starts the server itself, on this machine and on a fresh database, and drives
// it over HTTP in a closed loop: each caller sends its next request when it has
// the answer to the one before.
//
//	go run ./loadtest              the example, at 1 to 128 callers
//	go run ./loadtest -compare     the same handler over three stores
//	go run ./loadtest -growth      a small database against a large one
//	go run ./loadtest -timing      whether answers that are to be the same take as long
//
// docs/PERFORMANCE.md says what the figures mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Bounds, so that no mistyped flag runs for ever.
const (
	mostCallers  = 1024
	mostDuration = 5 * time.Minute
	mostRounds   = 100
	mostSessions = 10_000_000
	mostSamples  = 100_000
)

type config struct {
	compare, growth, timing bool
	serve                   string // hidden: be one of the compared servers
	listen                  string

	url      string
	db       string
	dir      string
	callers  []int
	duration time.Duration
	rounds   int
	sessions int
	samples  int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "loadtest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	cfg, err := parseFlags(args)
	if err != nil {
		return err
	}
	if cfg.serve != "" {
		return serve(ctx, cfg.serve, cfg.listen, cfg.db)
	}
	dir, err := os.MkdirTemp(cfg.dir, "loadtest")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cfg.dir = dir
	switch {
	case cfg.compare:
		return compare(ctx, cfg, out)
	case cfg.growth:
		return growth(ctx, cfg, out)
	case cfg.timing:
		return timing(ctx, cfg, out)
	default:
		return measure(ctx, cfg, out)
	}
}

func parseFlags(args []string) (config, error) {
	var cfg config
	var callers string
	flags := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	flags.BoolVar(&cfg.compare, "compare", false, "compare the store with GORM's defaults and with SQL by hand")
	flags.BoolVar(&cfg.growth, "growth", false, "compare a database of 10,000 sessions with one of -sessions")
	flags.BoolVar(&cfg.timing, "timing", false, "test whether requests for numbers with and without an account take as long")
	flags.StringVar(&cfg.url, "url", "", "drive the server at this loopback `URL` instead of starting one")
	flags.StringVar(&cfg.db, "db", "", "what the example is given as -db (default: a new SQLite file)")
	flags.StringVar(&cfg.dir, "dir", "", "`directory` for databases; not one in memory, or commits cost nothing (default: the system's for temporary files)")
	flags.StringVar(&callers, "callers", "1,8,32,128", "numbers of callers, separated by commas")
	flags.DurationVar(&cfg.duration, "duration", 3*time.Second, "how long each figure is measured")
	flags.IntVar(&cfg.rounds, "rounds", 5, "rounds of -compare and -growth, whose medians are shown, and of -timing")
	flags.IntVar(&cfg.sessions, "sessions", 3_000_000, "sessions in the large database of -growth")
	flags.IntVar(&cfg.samples, "samples", 2000, "requests of each kind in a round of -timing")
	flags.StringVar(&cfg.serve, "serve", "", "used by -compare and -timing for the servers they start")
	flags.StringVar(&cfg.listen, "listen", "", "used by -compare and -timing for the servers they start")
	if err := flags.Parse(args); err != nil {
		return config{}, err
	}
	for part := range strings.SplitSeq(callers, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > mostCallers {
			return config{}, fmt.Errorf("-callers: %q is not a number from 1 to %d", part, mostCallers)
		}
		cfg.callers = append(cfg.callers, n)
	}
	return cfg, cfg.check()
}

func (c config) check() error {
	switch {
	case c.duration <= 0 || c.duration > mostDuration:
		return fmt.Errorf("-duration must be more than 0 and at most %v", mostDuration)
	case c.rounds < 1 || c.rounds > mostRounds:
		return fmt.Errorf("-rounds must be 1 to %d", mostRounds)
	case c.sessions < fewSessions || c.sessions > mostSessions:
		return fmt.Errorf("-sessions must be %d to %d", fewSessions, mostSessions)
	case c.samples < 1 || c.samples > mostSamples:
		return fmt.Errorf("-samples must be 1 to %d", mostSamples)
	case c.url != "":
		return checkLoopback(c.url)
	}
	return nil
}

// checkLoopback keeps the load on this machine.
func checkLoopback(rawURL string) error {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		return errors.New("-url must be http://127.0.0.1:PORT or http://[::1]:PORT")
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("-url: %s is not a loopback address; this program loads nothing but its own machine", u.Hostname())
	}
	return nil
}
