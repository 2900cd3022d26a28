package threepid

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid/delegate"
	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/observe"
	"example.com/threepid/sms"
	"example.com/threepid/store"
)

// Options configure a plugin. The zero value works and is safe.
type Options struct {
	// Routes

	// BasePath precedes the path of every endpoint. A Matrix homeserver sets
	// "/_matrix/client/v3". Plugin.Mount adds more base paths.
	// Defaults to "/_api/client/v3".
	BasePath string

	// PublicURL is the URL at which clients reach the router, such as "https://example.org":
	// scheme, host and, if a proxy strips a path, that path. Every submit_url begins with it. Set
	// it in production. Defaults to the Host header of each request, with https only if this
	// process terminates TLS.
	PublicURL string

	// OmitEndpoints are endpoints that the host serves itself. Defaults to none.
	OmitEndpoints []Endpoint

	// DisableCORS disables the CORS headers, for a host that sends its own. Defaults to
	// false: the plugin sends each CORS header that the host's middleware has not set.
	DisableCORS bool

	// NextLinkHosts are the host names, without port, to which a next_link may point.
	// Defaults to any host.
	NextLinkHosts []string

	// AllowLegacyClients accepts clients of the Matrix client-server API r0.5 and older.
	// They send id_server without id_access_token, and use the deprecated POST
	// /account/3pid, which is mounted if EndpointListNumbers and EndpointAddNumber are.
	// id_access_token is never used. id_server matters only if the Delegate is an identity
	// server, and must then name that server.
	// Defaults to false: id_server requires id_access_token, and POST /account/3pid gets
	// 405.
	AllowLegacyClients bool

	// BodyTimeout is how long a client may take to send a request body, even on a server
	// without a ReadTimeout. It must be at least a millisecond. Defaults to 10 seconds.
	BodyTimeout time.Duration

	// Accounts

	// Accounts reports which numbers are associated with an account. Defaults to the
	// store, if it implements store.Accounts, as the stores of this module do.
	Accounts store.Accounts

	// Authenticate returns the ID of the user who makes a request, at most 255 bytes
	// long. For the errors ErrMissingToken and ErrUnknownToken, and for an empty ID, the
	// client gets 401. Any other error is logged, and the client gets 500. Authenticate
	// may write the response itself, as user-interactive authentication does with its own
	// 401; the plugin then adds nothing to it. Authenticate may read the request body,
	// which is limited in size and time.
	//
	// Identify the user by a header such as Authorization, not by a cookie: forms on other
	// sites can post to these endpoints, and browsers send cookies with them.
	//
	// Defaults to nil: the endpoints for an account's numbers are not mounted.
	Authenticate func(*gin.Context) (userID string, err error)

	// ConcealAccounts hides which numbers have an account. A request to add or register a number
	// that has an account, or to reset a password with a number that has none, gets the same
	// response as any other, and the SMS explains the problem instead of carrying a code. Each
	// request takes up to ten milliseconds longer, so that response time does not reveal the
	// result. Defaults to false: such requests are refused, as the Matrix specification requires.
	ConcealAccounts bool

	// Delivery

	// Delegate is a service that sends and checks the codes in place of the sender, which
	// may then be nil. The service determines text and code: texts of Messages are not sent,
	// and TokenDigits applies only to test numbers. Delegate cannot be combined with ConcealAccounts, which
	// needs the plugin's own texts.
	// Defaults to nil: the plugin generates the codes, and the sender sends them.
	Delegate delegate.Service

	// SendTimeout is how long the sender may take for one SMS, and the Delegate for one
	// call: a millisecond to a minute. It also bounds how long Plugin.Close waits.
	// Defaults to 10 seconds.
	SendTimeout time.Duration

	// Protection

	// ClientKey returns the key used for rate limiting, such as an account's ID. Limits by
	// client do not apply to a request for which it returns an empty string. Defaults to
	// Gin's ClientIP, which is correct behind proxies only if the router knows them: call
	// SetTrustedProxies.
	ClientKey func(*gin.Context) string

	// Limits limit how many SMS are sent and how many wrong codes are compared. Defaults
	// to the limits that package limits documents.
	Limits limits.Limits

	// Guard blocks ranges of numbers, countries and client networks whose numbers are
	// rarely validated. Defaults to the settings that package limits documents.
	Guard limits.Guard

	// Policy defines which numbers may receive SMS. Defaults to the numbers of all
	// countries, except premium rate and other service numbers.
	Policy limits.Policy

	// Messages

	// Messages configure the text of the SMS. Defaults to built-in texts in the
	// client's language, without a brand.
	Messages Messages

	// Codes

	// TokenDigits is the length of a code, 6 to 9 digits. Defaults to 6.
	TokenDigits int

	// TokenLifetime is how long a code is valid after the latest SMS that carried it.
	// It must be longer than SendTimeout. Defaults to 10 minutes.
	TokenLifetime time.Duration

	// SessionLifetime is how long a session is valid after its latest SMS, and how long a
	// validation is valid. It must not be shorter than TokenLifetime. Defaults to 24 hours.
	SessionLifetime time.Duration

	// ServerKeys protect the codes from read access to the database. Without a key,
	// somebody who reads a session's row and knows its client_secret can compute its
	// code. Each key has at least 32 random bytes; all nodes have the same keys. The first key
	// makes new codes, and each key checks the codes that it made. To replace a key, append
	// the new key on all nodes, then move it to the front, and remove the old key after
	// another TokenLifetime. A code whose key was removed is invalid.
	//
	// The keys do not protect against somebody who can write to the database, read this process
	// or its settings, or read the SMS. Defaults to none.
	ServerKeys [][]byte

	// History

	// StatisticsLifetime is how long the store keeps the statistics of each hour, for
	// Plugin.Statistics. If it is negative, the store keeps none. Actions of operators, for
	// Plugin.Actions, are kept for StatisticsLifetime or JournalLifetime, whichever is
	// longer. It has no effect with a store that does not implement store.History. Defaults
	// to 90 days.
	StatisticsLifetime time.Duration

	// JournalLifetime is how long the store keeps the journal of each number, for
	// Plugin.Explain and Plugin.RecordReceipt: its SMS with their receipts, wrong and right
	// codes, and refusals. Entries contain no code, no client address, and only a hash of
	// the number. If it is negative, the store keeps no journal. It has no effect with a
	// store that does not implement store.History. Defaults to 7 days.
	JournalLifetime time.Duration

	// Runtime

	// Logger receives log records about SMS, validations and failures. They contain no
	// code and no client_secret, and numbers are masked. Defaults to slog.Default().
	Logger *slog.Logger

	// Observer receives an event for each request, SMS, validation, block and so on, for
	// metrics and audits: see package observe. A slow Observer delays no request. Defaults
	// to none.
	Observer observe.Observer

	// Now returns the current time. The clocks of nodes that share a store may differ by
	// about two seconds. Defaults to time.Now.
	Now func() time.Time

	// Random is the source of session IDs and nonces. It must be cryptographically secure
	// and safe for concurrent use. Defaults to crypto/rand.Reader.
	Random io.Reader
}

const (
	defaultBasePath        = "/_api/client/v3"
	defaultTokenDigits     = 6
	defaultTokenLifetime   = 10 * time.Minute
	defaultSessionLifetime = 24 * time.Hour
	defaultSendTimeout     = 10 * time.Second
	defaultBodyTimeout     = 10 * time.Second

	defaultStatisticsLifetime = 90 * 24 * time.Hour
	defaultJournalLifetime    = 7 * 24 * time.Hour
)

// sweepInterval is how often expired rows are deleted.
const sweepInterval = time.Minute

// complete returns a copy of o with defaults in place of zero values, or an error that
// names each invalid field. It changes nothing that the caller can see.
func (o Options) complete(st store.Store) (Options, error) {
	orDefault(&o.BasePath, defaultBasePath)
	orDefault(&o.Messages.Language, texts.English)
	orDefault(&o.TokenDigits, defaultTokenDigits)
	orDefault(&o.TokenLifetime, defaultTokenLifetime)
	orDefault(&o.SessionLifetime, defaultSessionLifetime)
	orDefault(&o.SendTimeout, defaultSendTimeout)
	orDefault(&o.BodyTimeout, defaultBodyTimeout)
	orDefault(&o.StatisticsLifetime, defaultStatisticsLifetime)
	orDefault(&o.JournalLifetime, defaultJournalLifetime)
	orDefault(&o.Logger, slog.Default())
	if o.Now == nil {
		o.Now = time.Now
	}
	if isNil(o.Delegate) {
		o.Delegate = nil
	}
	if isNil(o.Observer) {
		o.Observer = nil
	}
	if isNil(o.Random) {
		o.Random = rand.Reader
	}
	if isNil(o.Accounts) {
		accounts, ok := st.(store.Accounts)
		if !ok {
			return o, errors.New("threepid: set Options.Accounts: the store does not implement store.Accounts")
		}
		o.Accounts = accounts
	}
	o.Limits, o.Guard, o.Policy = o.Limits.WithDefaults(), o.Guard.WithDefaults(), o.Policy.Clone()
	o.ServerKeys = slices.Clone(o.ServerKeys) // verify.New clones the keys themselves
	o.OmitEndpoints = slices.Clone(o.OmitEndpoints)
	o.NextLinkHosts = slices.Clone(o.NextLinkHosts)
	for i, host := range o.NextLinkHosts {
		o.NextLinkHosts[i] = strings.ToLower(host)
	}
	o.PublicURL = strings.TrimRight(o.PublicURL, "/")
	return o, o.validate()
}

// mountsAccount reports whether any endpoint for an account's numbers is mounted.
func (o Options) mountsAccount() bool {
	omitted := func(e Endpoint) bool { return slices.Contains(o.OmitEndpoints, e) }
	return o.Authenticate != nil && slices.ContainsFunc(accountEndpoints(), func(e Endpoint) bool { return !omitted(e) })
}

// config returns the configuration of the domain.
func (o Options) config(st store.Store, sender sms.Sender, catalog *texts.Catalog) verify.Config {
	return verify.Config{
		Store:           st,
		Accounts:        o.Accounts,
		Sender:          sender,
		Delegate:        o.Delegate,
		Brand:           o.Messages.Brand,
		Text:            catalog.Message,
		Policy:          o.Policy,
		Limits:          o.Limits,
		Guard:           o.Guard,
		Conceal:         o.ConcealAccounts,
		NextLinkHosts:   o.NextLinkHosts,
		TokenDigits:     o.TokenDigits,
		TokenLifetime:   o.TokenLifetime,
		SessionLifetime: o.SessionLifetime,
		SendTimeout:     o.SendTimeout,
		SweepInterval:   sweepInterval,
		ServerKeys:      o.ServerKeys,
		Logger:          o.Logger,
		Observer:        o.Observer,

		StatisticsLifetime: o.StatisticsLifetime,
		JournalLifetime:    o.JournalLifetime,

		Now:    o.Now,
		Random: o.Random,
	}
}

func orDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// isNil reports whether v is nil, or holds a nil pointer, function, map, channel or slice.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	nillable := []reflect.Kind{reflect.Pointer, reflect.Func, reflect.Map, reflect.Chan, reflect.Slice}
	r := reflect.ValueOf(v)
	return slices.Contains(nillable, r.Kind()) && r.IsNil()
}
