// Command load measures what a server with threepid does in a second. It
// starts the example itself, on this machine, as one node or several over one
// database, and drives it over HTTP in a closed loop: each caller sends its next
// request when it has the response to the one before. The SMS go to an HTTP server
// of this program's own, as they would to a provider.
//
//	go run ./test/load                      whole verifications on SQLite, with the default limits and without
//	go run ./test/load -work fresh,retry    other kinds of request
//	go run ./test/load -db postgres://…     on a database server; several URLs, separated by commas, for the nodes of a cluster
//	go run ./test/load -db … -nodes 3       several nodes
//	go run ./test/load -db … -nodes 3 -freeze      one node stops in the middle of its work
//	go run ./test/load -db … -round-trip 2300us    a database that is further away
//	go run ./test/load -growth              a small database against a large one
//	go run ./test/load -timing              whether responses that must not differ take equally long
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
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// These bounds keep a mistyped flag from running forever.
const (
	maxCallers  = 1024
	maxNodes    = 16
	maxDuration = 5 * time.Minute
	maxRounds   = 100
	maxSessions = 10_000_000
	maxSamples  = 100_000
)

type config struct {
	growth, timing, freeze bool
	serve                  bool // hidden: run as the server of -timing
	listen                 string

	works     []string
	limits    []string
	guard     string
	nodes     int
	roundTrip time.Duration

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
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	cfg, err := parseFlags(args)
	if err != nil {
		return err
	}
	if cfg.serve {
		return serve(ctx, cfg.listen, cfg.db)
	}
	dir, err := os.MkdirTemp(cfg.dir, "load")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	cfg.dir = dir
	switch {
	case cfg.freeze:
		return freeze(ctx, cfg, out)
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
	var callers, works, limits string
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.BoolVar(&cfg.growth, "growth", false, "compare a database of 10,000 sessions with one of -sessions")
	flags.BoolVar(&cfg.timing, "timing", false, "test whether requests for numbers with and without an account take equally long")
	flags.BoolVar(&cfg.freeze, "freeze", false, "stop one of the -nodes and measure the others")
	flags.StringVar(&works, "work", "verification", "`kinds` of work, separated by commas: "+strings.Join(workNames(), ", "))
	flags.StringVar(&limits, "limits", "default,off", "the example's -limits, each measured in turn; ratios are to the last one; default+ops serves metrics too, and default+quiet keeps no history")
	flags.StringVar(&cfg.guard, "guard", "on", "the example's -guard")
	flags.StringVar(&cfg.db, "db", "", "what the example is given as -db (default: a new SQLite file); it should be new, too")
	flags.IntVar(&cfg.nodes, "nodes", 1, "how many examples share the database")
	flags.DurationVar(&cfg.roundTrip, "round-trip", 0, "how much longer a round trip to the database server takes")
	flags.StringVar(&cfg.dir, "dir", "", "`directory` for databases; not one in memory, or commits cost nothing (default: the system's for temporary files)")
	flags.StringVar(&callers, "callers", "32", "numbers of callers, separated by commas")
	flags.DurationVar(&cfg.duration, "duration", 5*time.Second, "how long each figure is measured")
	flags.IntVar(&cfg.rounds, "rounds", 3, "rounds, whose medians are shown")
	flags.IntVar(&cfg.sessions, "sessions", 3_000_000, "sessions in the large database of -growth")
	flags.IntVar(&cfg.samples, "samples", 2000, "requests of each kind in a round of -timing")
	flags.BoolVar(&cfg.serve, "serve", false, "used by -timing for the server it starts")
	flags.StringVar(&cfg.listen, "listen", "", "used by -timing for the server it starts")
	if err := flags.Parse(args); err != nil {
		return config{}, err
	}
	for part := range strings.SplitSeq(callers, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > maxCallers {
			return config{}, fmt.Errorf("-callers: %q is not a number from 1 to %d", part, maxCallers)
		}
		cfg.callers = append(cfg.callers, n)
	}
	for part := range strings.SplitSeq(works, ",") {
		cfg.works = append(cfg.works, strings.TrimSpace(part))
	}
	cfg.limits = strings.Split(limits, ",")
	return cfg, cfg.check()
}

func (c config) check() error {
	for _, name := range c.works {
		if !slices.Contains(workNames(), name) {
			return fmt.Errorf("-work: %q is none of %s", name, strings.Join(workNames(), ", "))
		}
	}
	switch {
	case c.nodes < 1 || c.nodes > maxNodes:
		return fmt.Errorf("-nodes must be 1 to %d", maxNodes)
	case c.nodes > 1 && c.db == "":
		return errors.New("-nodes needs a -db with a server")
	case c.freeze && c.nodes < 2: //nolint:mnd // one is stopped, and another is measured
		return errors.New("-freeze needs two -nodes or more")
	case c.roundTrip < 0 || c.roundTrip > time.Second:
		return errors.New("-round-trip must be 0 to 1s")
	case c.duration <= 0 || c.duration > maxDuration:
		return fmt.Errorf("-duration must be more than 0 and at most %v", maxDuration)
	case c.rounds < 1 || c.rounds > maxRounds:
		return fmt.Errorf("-rounds must be 1 to %d", maxRounds)
	case c.sessions < fewSessions || c.sessions > maxSessions:
		return fmt.Errorf("-sessions must be %d to %d", fewSessions, maxSessions)
	case c.samples < 1 || c.samples > maxSamples:
		return fmt.Errorf("-samples must be 1 to %d", maxSamples)
	}
	return checkLoopback(c.db)
}

// checkLoopback keeps the load on this machine.
func checkLoopback(databases string) error {
	for database := range strings.SplitSeq(databases, ",") {
		u, err := url.Parse(database)
		if err != nil {
			return errors.New("-db is no path and no URL")
		}
		if u.Host == "" {
			continue
		}
		if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
			return fmt.Errorf("-db: %s is not a loopback address; this program loads nothing but its own machine", u.Hostname())
		}
	}
	return nil
}
