package threepid

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"example.com/threepid/delegate"
	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/verify"
	"example.com/threepid/limits"
	"example.com/threepid/store"
)

// The spans and sizes that Options allow.
const (
	defaultBasePath        = "/_api/client/v3"
	defaultTokenDigits     = 6
	mostTokenDigits        = 9
	defaultTokenLifetime   = 10 * time.Minute
	defaultSessionLifetime = 24 * time.Hour
	defaultSendTimeout     = 10 * time.Second
	defaultBodyTimeout     = 10 * time.Second
	mostSendTimeout        = time.Minute
	minServerKeyLength     = 32 // bytes
	mostBrandLength        = 40 // characters; the text must stay one SMS
	sweepInterval          = time.Minute
)

// Endpoint is one of the paths that Register mounts, below the base path.
type Endpoint string

// The endpoints. The number must not be associated with an account to be added
// or registered, and must be to reset a password. The last three, an account's
// list of numbers, are mounted when Options.Authenticate is set. Beside each is
// where it stands in https://spec.matrix.org/v1.19/client-server-api/; submitToken is
// that of https://spec.matrix.org/v1.19/identity-service-api/, on a path of our own.
const (
	EndpointAdd      Endpoint = "/account/3pid/msisdn/requestToken"     // #post_matrixclientv3account3pidmsisdnrequesttoken
	EndpointRegister Endpoint = "/register/msisdn/requestToken"         // #post_matrixclientv3registermsisdnrequesttoken
	EndpointPassword Endpoint = "/account/password/msisdn/requestToken" // #post_matrixclientv3accountpasswordmsisdnrequesttoken
	EndpointSubmit   Endpoint = "/account/3pid/msisdn/submitToken"      // #post_matrixidentityv2validatemsisdnsubmittoken

	EndpointAccount       Endpoint = "/account/3pid"        // #get_matrixclientv3account3pid
	EndpointAccountAdd    Endpoint = "/account/3pid/add"    // #post_matrixclientv3account3pidadd
	EndpointAccountDelete Endpoint = "/account/3pid/delete" // #post_matrixclientv3account3piddelete
)

func endpoints() []Endpoint {
	return append([]Endpoint{EndpointAdd, EndpointRegister, EndpointPassword, EndpointSubmit}, accountEndpoints()...)
}

func accountEndpoints() []Endpoint {
	return []Endpoint{EndpointAccount, EndpointAccountAdd, EndpointAccountDelete}
}

// Options adjust a plugin. The zero value works and is safe.
type Options struct {
	// BasePath stands before every endpoint. A Matrix homeserver sets
	// "/_matrix/client/v3". Plugin.Mount adds further ones.
	// Default "/_api/client/v3".
	BasePath string

	// PublicURL is how clients reach the router: scheme, host, and a path if a
	// proxy strips one, such as "https://example.org". It begins every
	// submit_url. Set it in production: without it submit_url repeats the Host
	// header that the request came with, and is https only when this process
	// itself ends TLS. Default: taken from each request.
	PublicURL string

	// Accounts says which numbers are associated with an account.
	// Default: the store, if it is a store.Accounts, as those of this module are.
	Accounts store.Accounts

	// Delegate texts and checks the codes in place of the sender, which may then
	// be nil and is not used. Nor are Brand and Texts and what texts end with, or
	// TokenDigits, save for TestNumbers: text and code are the service's. It cannot be
	// had with ConcealAccounts, for which the text must be ours.
	// Default: the code is ours, and the sender texts it.
	Delegate delegate.Service

	// Authenticate says whose account a request is for: his ID, of at most 255
	// bytes, or ErrMissingToken or ErrUnknownToken, which are answered with 401.
	// An empty ID counts as ErrMissingToken. Any other error is logged and
	// answered with 500. When Authenticate has answered by itself, as
	// user-interactive authentication does with a 401 of its own, nothing more is
	// written. It may read the body, and rely on the limits for it.
	//
	// Identify the user by a header, such as Authorization, and not by a cookie:
	// forms of other sites can post to these endpoints, and send cookies along.
	//
	// Default: none, and the endpoints of an account's list are not mounted.
	Authenticate func(*gin.Context) (userID string, err error)

	// Limits bound the SMS that are sent and the wrong codes that are compared. Defaults
	// to what limits.Limits says.
	Limits limits.Limits

	// Guard blocks ranges of numbers, countries and networks whose numbers hardly ever
	// validate. Defaults to what limits.Guard says.
	Guard limits.Guard

	// Policy says which numbers are texted at all. Default: see Policy.
	Policy Policy

	// Client says whom a request counts against, such as an account's ID; an
	// empty string counts against nobody. Default: Gin's ClientIP, which is to
	// be believed only if the router was told its proxies: SetTrustedProxies.
	Client func(*gin.Context) string

	// ConcealAccounts has requests for a number that is taken, or for a password
	// one that is not known, answered like any other: nobody learns who has an
	// account. The text then says what is the matter instead of bringing a code.
	// Each request takes up to ten milliseconds longer, lest its duration tells.
	// Default: they are refused, as the Matrix specification has it.
	ConcealAccounts bool

	// TestNumbers are never texted and have codes that do not change.
	// Default: none.
	TestNumbers []TestNumber

	// Brand is who the text message says the code is for: "123456 is your
	// Example code." At most 40 characters.
	// Default: none, "123456 is your verification code."
	Brand string

	// Language is that of texts and page for whoever wants none that there is,
	// or does not say: a BCP 47 tag of a language that is built in
	// (docs/TEXTS.md) or in Texts. Default "en".
	Language string

	// Texts replace built-in texts, or add languages, by BCP 47 tag. Which one a
	// client gets, its Accept-Language says. Register refuses wrong ones, and
	// warns of those that take more than one SMS.
	// Default: those that are built in.
	Texts map[string]Texts

	// WebOTPDomain has texts with a code end in a line such as
	// "@example.com #123456", so that browsers fill it in on that site and on no
	// other: https://wicg.github.io/sms-one-time-codes/. A host name in lower
	// case, nothing else. Default: none.
	WebOTPDomain string

	// AndroidAppHash has texts with a code end in a line with this hash, by
	// which Android's SMS Retriever gives them to your app: 11 characters. With
	// a WebOTPDomain it is the last line but one. Default: none.
	AndroidAppHash string

	// RequireValidNumbers refuses numbers that have a possible length but lie
	// in no range that is assigned. Default: possible is enough.
	RequireValidNumbers bool

	// AllowLegacyClients accepts clients of the Matrix client-server API r0.5 and
	// older: id_server without id_access_token, and the deprecated POST /account/3pid,
	// which is mounted where both EndpointAccount and EndpointAccountAdd are.
	// id_access_token is never used. id_server matters only if the Delegate is an
	// identity server; it must then name that server.
	// Default: id_server requires id_access_token, and POST /account/3pid is refused
	// with 405.
	AllowLegacyClients bool

	// NextLinkHosts are the host names, without port, that a next_link may
	// lead to. Default: any host.
	NextLinkHosts []string

	// Omit leaves endpoints out that the host serves itself. Default: none.
	Omit []Endpoint

	// DisableCORS leaves the CORS headers to the host; without it they are
	// sent, save those that are set already. Default: sent.
	DisableCORS bool

	// TokenDigits is the length of a code, 6 to 9. Default 6.
	TokenDigits int

	// ServerKeys protect codes from read access to the database: whoever can read
	// rows and is the client of a session computes its code without the SMS, unless a
	// key that is in no row is part of it. Each has at least 32 random bytes, and all
	// nodes have the same. The first makes new codes, and all of them check the codes
	// that they made. To replace a key, append the new one on all nodes, then put
	// it first, and remove the old one when TokenLifetime has passed since. Codes
	// in flight must be asked for again when their key is removed.
	//
	// They do not protect from somebody who can write to the database, read this
	// process or its settings, or read the SMS. Default: none.
	ServerKeys [][]byte

	// TokenLifetime is how long a code is good after the latest text that
	// carried it. Longer than SendTimeout. Default 10 minutes.
	TokenLifetime time.Duration

	// SessionLifetime is how long a session lives after its latest text, and
	// how long a validation counts. Not shorter than TokenLifetime. Default 24
	// hours.
	SessionLifetime time.Duration

	// SendTimeout is how long the sender may take for one text, and the Delegate
	// for one call: a millisecond to a minute. It also bounds how long
	// Plugin.Close waits.
	// Default 10 seconds.
	SendTimeout time.Duration

	// BodyTimeout is how long a client may take to send a request's body, also on
	// a server without a ReadTimeout. Default 10 seconds.
	BodyTimeout time.Duration

	// Logger hears of texts, validations and failures. It is given no token,
	// no client_secret and no whole number. Default: slog.Default().
	Logger *slog.Logger

	// Now is the clock. Nodes that share a store must agree to a second or
	// so. Default: time.Now.
	Now func() time.Time

	// Random is where sids and nonces come from; it must be fit for
	// cryptography and safe for concurrent use. Default: crypto/rand.Reader.
	Random io.Reader
}

// complete returns a copy of o with its defaults filled in, or says what is
// wrong. It changes nothing that the caller can see.
func (o Options) complete(st store.Store) (Options, error) {
	orDefault(&o.BasePath, defaultBasePath)
	orDefault(&o.Language, texts.English)
	orDefault(&o.TokenDigits, defaultTokenDigits)
	orDefault(&o.TokenLifetime, defaultTokenLifetime)
	orDefault(&o.SessionLifetime, defaultSessionLifetime)
	orDefault(&o.SendTimeout, defaultSendTimeout)
	orDefault(&o.BodyTimeout, defaultBodyTimeout)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if isNil(o.Delegate) {
		o.Delegate = nil
	}
	if isNil(o.Random) {
		o.Random = rand.Reader
	}
	if isNil(o.Accounts) {
		accounts, ok := st.(store.Accounts)
		if !ok {
			return o, errors.New("threepid: set Options.Accounts: the store does not say which numbers have an account")
		}
		o.Accounts = accounts
	}
	if _, lookUp := o.Accounts.(store.OwnerFunc); lookUp && o.mountsAccount() {
		return o, errors.New("threepid: Options.Authenticate has the list of an account's numbers served, but Options.Accounts, " +
			"a store.OwnerFunc, can only look numbers up: implement store.Accounts, or leave the account's endpoints out with Options.Omit")
	}
	o.Limits, o.Guard, o.Policy = o.Limits.WithDefaults(), o.Guard.WithDefaults(), o.Policy.clone()
	o.TestNumbers = slices.Clone(o.TestNumbers)
	o.ServerKeys = slices.Clone(o.ServerKeys) // verify.New clones the keys themselves
	o.Omit = slices.Clone(o.Omit)
	o.NextLinkHosts = slices.Clone(o.NextLinkHosts)
	for i, host := range o.NextLinkHosts {
		o.NextLinkHosts[i] = strings.ToLower(host)
	}
	o.PublicURL = strings.TrimRight(o.PublicURL, "/")
	return o, errors.Join(o.checkNames(), o.checkSpans(), o.checkEnds(),
		inOptions(o.Limits.Validate()), inOptions(o.Guard.Validate()), checkAllowed(o.Guard.Allow), o.Policy.check(), checkTestNumbers(o.TestNumbers, o.TokenDigits))
}

// mountsAccount tells whether any of the account's endpoints is mounted.
func (o Options) mountsAccount() bool {
	omitted := func(e Endpoint) bool { return slices.Contains(o.Omit, e) }
	return o.Authenticate != nil && slices.ContainsFunc(accountEndpoints(), func(e Endpoint) bool { return !omitted(e) })
}

// checkNames checks what is made of letters.
func (o Options) checkNames() error {
	var errs []error
	if o.Delegate != nil && o.ConcealAccounts {
		errs = append(errs, errors.New("threepid: Options.ConcealAccounts cannot be had with a Delegate: "+
			"who owns a number must be texted something else than a code, and the texts are the service's"))
	}
	errs = append(errs, checkBasePath(o.BasePath), checkPublicURL(o.PublicURL))
	for _, e := range o.Omit {
		if !slices.Contains(endpoints(), e) {
			errs = append(errs, fmt.Errorf("threepid: Options.Omit: there is no endpoint %q; use the Endpoint constants", e))
		}
	}
	for _, host := range o.NextLinkHosts {
		if !verify.ValidHost(host) || strings.Contains(host, ":") {
			errs = append(errs, fmt.Errorf("threepid: Options.NextLinkHosts: %q is no host name; give it without scheme, port and path", host))
		}
	}
	if utf8.RuneCountInString(o.Brand) > mostBrandLength || strings.ContainsFunc(o.Brand, unicode.IsControl) {
		errs = append(errs, fmt.Errorf("threepid: Options.Brand must be one line of at most %d characters", mostBrandLength))
	}
	return errors.Join(errs...)
}

// checkSpans checks what is made of numbers.
func (o Options) checkSpans() error {
	var errs []error
	if o.TokenDigits < defaultTokenDigits || o.TokenDigits > mostTokenDigits {
		errs = append(errs, fmt.Errorf("threepid: Options.TokenDigits must be %d to %d, not %d",
			defaultTokenDigits, mostTokenDigits, o.TokenDigits))
	}
	for i, key := range o.ServerKeys {
		if len(key) < minServerKeyLength {
			errs = append(errs, fmt.Errorf("threepid: Options.ServerKeys[%d] has %d bytes: each key must have at least %d, from crypto/rand",
				i, len(key), minServerKeyLength))
		}
	}
	if o.SendTimeout < time.Millisecond || o.SendTimeout > mostSendTimeout {
		errs = append(errs, fmt.Errorf("threepid: Options.SendTimeout must be 1ms to %v, not %v", mostSendTimeout, o.SendTimeout))
	}
	if o.BodyTimeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("threepid: Options.BodyTimeout must be 1ms or more, not %v", o.BodyTimeout))
	}
	if o.TokenLifetime <= o.SendTimeout {
		errs = append(errs, fmt.Errorf("threepid: Options.TokenLifetime must be longer than SendTimeout, %v, not %v",
			o.SendTimeout, o.TokenLifetime))
	}
	if o.SessionLifetime < o.TokenLifetime {
		errs = append(errs, fmt.Errorf("threepid: Options.SessionLifetime must not be shorter than TokenLifetime, %v, but is %v",
			o.TokenLifetime, o.SessionLifetime))
	}
	return errors.Join(errs...)
}

func checkBasePath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/") || p != path.Clean(p):
		return fmt.Errorf("threepid: base path %q must begin with a slash, end without one, and be clean, such as %q", p, defaultBasePath)
	case strings.ContainsAny(p, ":*?#%\\ "):
		return fmt.Errorf("threepid: base path %q must be made of plain letters: no wildcards, query or escapes", p)
	}
	return nil
}

func checkPublicURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || !verify.ValidHost(u.Host) ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("threepid: Options.PublicURL must be an http or https URL without user, query and fragment, such as https://example.org")
	}
	return nil
}

func orDefault[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// isNil tells whether an interface holds nothing, or a nil pointer or function.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	nillable := []reflect.Kind{reflect.Pointer, reflect.Func, reflect.Map, reflect.Chan, reflect.Slice}
	r := reflect.ValueOf(v)
	return slices.Contains(nillable, r.Kind()) && r.IsNil()
}

// inOptions says of an error where the field is that it names.
func inOptions(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("threepid: Options.%w", err)
}

// checkAllowed returns an error for a country in Guard.Allow that does not exist.
func checkAllowed(allowed []string) error {
	for _, a := range allowed {
		if !strings.HasPrefix(a, "+") && !isCountry(a) {
			return fmt.Errorf("threepid: Options.Guard.Allow: %q is no country", a)
		}
	}
	return nil
}
