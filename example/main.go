// Command example is a complete Gin server with phone number verification. Run it to
// try the plugin, and copy from it.
//
//	go run ./example
//
// It needs no other service: it stores sessions in SQLite and prints the SMS to
// standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"example.com/threepid/limits"
)

const gcPercent = 400

// config holds the values of the flags.
type config struct {
	listen         string
	basePaths      []string
	publicURL      string
	db             string
	sms            string
	receiptsURL    string
	limits         string
	guard          string
	countries      []string
	conceal        bool
	testNumbers    []limits.TestNumber
	trustedProxies []string
	identityListen string
	identityTokens tokenList
	accounts       string
	brand          string
	serverKeys     tokenList
	opsListen      string
	opsTokens      tokenList
	statistics     time.Duration
	journal        time.Duration
}

func main() {
	// The heap of this server is small, so with the default GOGC of 100 it is collected
	// every few hundred requests. With 400, it is collected a quarter as often: that takes about
	// 15 MB more memory and a tenth less time.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	// The server keeps running if the reader of its standard output exits.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done, and then finishes the requests in progress. SMS and
// messages for the user go to stdout, the log goes to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	cfg, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	sender, err := openSender(cfg.sms, cfg.receiptsURL, os.Getenv, stdout, logger)
	if err != nil {
		return err
	}
	st, err := openStore(ctx, cfg.db)
	if err != nil {
		return err
	}
	defer func() {
		if err := st.Close(); err != nil {
			logger.Error("cannot close the database", "error", err)
		}
	}()
	listener, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	return serve(ctx, listener, cfg, st, sender, logger, stdout)
}

func parseFlags(args []string, stderr io.Writer) (config, error) {
	var cfg config
	var basePaths, countries, testNumbers, proxies string
	flags := flag.NewFlagSet("example", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.listen, "listen", "127.0.0.1:8008", "`address` to listen on")
	flags.StringVar(&basePaths, "base-path", "/_api/client/v3", "`paths` to mount at, separated by commas; Matrix homeservers use /_matrix/client/v3")
	flags.StringVar(&cfg.publicURL, "public-url", "", "`URL` at which clients reach this server (default: the -listen address if it is a loopback address, otherwise the Host header of each request)")
	flags.StringVar(&cfg.db, "db", "threepid.db", "SQLite file, or postgres:// or mysql:// `URL`")
	flags.StringVar(&cfg.sms, "sms", "console", "`provider`: "+usage(providers(nil))+"; several, separated by commas, for failover. Accounts are read from environment variables such as TWILIO_ACCOUNT_SID")
	flags.StringVar(&cfg.receiptsURL, "receipts-url", "", "public `URL` of this server at which providers post delivery receipts, below /receipts/ (default: none)")
	flags.StringVar(&cfg.limits, "limits", "default", "default; or off: no rate limits on SMS and wrong codes, and no guard")
	flags.StringVar(&cfg.guard, "guard", "on", "on; observe: only log what looks like SMS pumping; or off")
	flags.StringVar(&countries, "countries", "", "`countries` to whose numbers SMS are sent, such as GB,IE (default: all)")
	flags.BoolVar(&cfg.conceal, "conceal", false, "do not reveal which numbers have an account")
	flags.StringVar(&testNumbers, "test-numbers", "", "`numbers` to which no SMS is sent, with their codes, such as +447700900001=123456")
	flags.StringVar(&proxies, "trusted-proxies", "", "`addresses` of proxies whose X-Forwarded-For header is trusted, separated by commas (default: none)")
	flags.StringVar(&cfg.identityListen, "identity-listen", "", "private `address` on which homeservers reach the identity service, such as 127.0.0.1:8090 (default: none)")
	flags.Var(&cfg.identityTokens, "identity-token", "access `token` for v2 of the identity service; @file reads it from a file; may be repeated")
	flags.StringVar(&cfg.accounts, "accounts", "", "where to look up the numbers of accounts: synapse: followed by the `database` of a Synapse homeserver, which is only read (default: this server)")
	flags.StringVar(&cfg.brand, "brand", "", "`name` in the SMS: 123456 is your NAME code")
	flags.Var(&cfg.serverKeys, "server-key", "`key` of at least 32 characters; codes cannot be computed from the database without it; @file reads it from a file; may be repeated: the first key makes new codes")
	flags.StringVar(&cfg.opsListen, "ops-listen", "", "private `address` for operators: a page, /metrics, /healthz and /readyz, such as 127.0.0.1:8009 (default: none)")
	flags.Var(&cfg.opsTokens, "ops-token", "`token` that -ops-listen requires for its page and metrics; the page offers actions only if there is one; @file reads it from a file; may be repeated")
	const day = 24 * time.Hour
	flags.DurationVar(&cfg.statistics, "statistics-lifetime", 90*day, "how long hourly statistics are kept; 0 keeps none")
	flags.DurationVar(&cfg.journal, "journal-lifetime", 7*day, "how long the journal of each number is kept; 0 keeps none. The audit log is kept for the longer of the two times")
	if err := flags.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			err = errors.New("invalid flags: see the usage above")
		}
		return config{}, err
	}
	if flags.NArg() > 0 {
		return config{}, fmt.Errorf("unexpected argument %q: the program takes only flags, see -help", flags.Arg(0))
	}
	if cfg.limits != "default" && cfg.limits != "off" {
		return config{}, fmt.Errorf("-limits must be default or off, not %q", cfg.limits)
	}
	if cfg.guard != "on" && cfg.guard != "observe" && cfg.guard != "off" {
		return config{}, fmt.Errorf("-guard must be on, observe or off, not %q", cfg.guard)
	}
	if len(cfg.identityTokens) > 0 && cfg.identityListen == "" {
		return config{}, errors.New("-identity-token needs -identity-listen")
	}
	if len(cfg.opsTokens) > 0 && cfg.opsListen == "" {
		return config{}, errors.New("-ops-token needs -ops-listen")
	}
	cfg.countries = split(countries)
	for _, pair := range split(testNumbers) {
		number, code, _ := strings.Cut(pair, "=")
		cfg.testNumbers = append(cfg.testNumbers, limits.TestNumber{Number: number, Code: code})
	}
	cfg.basePaths = split(basePaths)
	if len(cfg.basePaths) == 0 {
		return config{}, errors.New("-base-path must name at least one path")
	}
	cfg.trustedProxies = split(proxies)
	return cfg, nil
}

// split splits a comma-separated list, and drops spaces and empty parts.
func split(list string) []string {
	var parts []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
