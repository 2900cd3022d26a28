package threepid

import (
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid/internal/texts"
	"example.com/threepid/internal/verify"
	"example.com/threepid/store"
)

// Texts are the texts of one language, as templates of package text/template.
// An empty one stays as it is built in: docs/TEXTS.md has them all.
//
// Fields of the first three: .Token, the code, which must stand there as it is;
// .Brand, which is empty if Options.Brand is; .Minutes, how long a code is good,
// a whole number. The others bring no code and have .Brand alone. None may
// have control characters save line feeds.
type Texts struct {
	Add      string // a number is added to an account
	Register string // an account is registered
	Password string // a password is reset, and the text should say so

	// With Options.ConcealAccounts, what somebody is told whose number has an
	// account already when it is to be added or registered, or for a password none.
	TakenAdd      string
	TakenRegister string
	Unknown       string
}

// catalog executes the templates.
func (o Options) catalog() (*texts.Catalog, error) {
	custom := make(map[string]map[texts.Kind]string, len(o.Texts))
	for tag, t := range o.Texts {
		custom[tag] = map[texts.Kind]string{
			texts.Add: t.Add, texts.Register: t.Register, texts.Password: t.Password,
			texts.TakenAdd: t.TakenAdd, texts.TakenRegister: t.TakenRegister, texts.Unknown: t.Unknown,
		}
	}
	return texts.New(texts.Config{
		Language: o.Language, Brand: o.Brand, Custom: custom,
		Digits: o.TokenDigits, Minutes: max(1, int(o.TokenLifetime.Minutes())),
		WebOTPDomain: o.WebOTPDomain, AndroidAppHash: o.AndroidAppHash,
	})
}

// textFrom is the domain's way to the texts.
func textFrom(catalog *texts.Catalog) func(verify.TextFor) string {
	return func(t verify.TextFor) string {
		kind := texts.Add
		switch t.Purpose {
		case store.PurposeAdd:
			if t.Decoy {
				kind = texts.TakenAdd
			}
		case store.PurposeRegister:
			kind = texts.Register
			if t.Decoy {
				kind = texts.TakenRegister
			}
		case store.PurposePassword:
			kind = texts.Password
			if t.Decoy {
				kind = texts.Unknown
			}
		}
		return catalog.Text(catalog.Match(t.AcceptLanguage), kind, t.Token)
	}
}

// checkEnds checks what texts may end with.
func (o Options) checkEnds() error {
	var errs []error
	domain := o.WebOTPDomain
	if domain != "" && (strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || strings.HasSuffix(domain, ".") ||
		!verify.ValidHost(domain) || net.ParseIP(domain) != nil) {
		errs = append(errs, fmt.Errorf("threepid: Options.WebOTPDomain: %q is no host name in lower-case ASCII, without scheme, port and path, "+
			"such as example.com", domain))
	}
	if hash := o.AndroidAppHash; hash != "" && !regexp.MustCompile(`^[A-Za-z0-9+/]{11}$`).MatchString(hash) {
		errs = append(errs, errors.New("threepid: Options.AndroidAppHash must be the 11 characters of base64 that stand for the app"))
	}
	return errors.Join(errs...)
}

// warnOfLongTexts logs which messages are billed more than once.
func (o Options) warnOfLongTexts(catalog *texts.Catalog) {
	var long []string
	for _, size := range catalog.Sizes() {
		if size.Segments > 1 && (size.Kind.BringsToken() || o.ConcealAccounts) {
			long = append(long, size.String())
		}
	}
	if len(long) > 0 {
		o.Logger.Warn("threepid: these texts take more than one SMS each: one has room for 160 characters of GSM-7, or 70 as UCS-2",
			"texts", strings.Join(long, ", "))
	}
}

// words are what the page says.
func (h *handler) words(c *gin.Context) texts.Page {
	return h.texts.Page(c.GetHeader("Accept-Language"))
}

// sentence is what the page says of an error, or of none.
func sentence(p texts.Page, err error) string {
	var refusal *verify.Error
	switch {
	case err == nil:
		return p.Confirmed
	case !errors.As(err, &refusal):
		return p.Failed
	}
	switch refusal.Code {
	case verify.MissingParam:
		return p.IncompleteLink
	case verify.InvalidParam:
		return p.InvalidLink
	case verify.TokenIncorrect:
		if refusal.TriesLeft == 0 {
			return p.LastTry
		}
		return strings.ReplaceAll(p.WrongCode, "{tries}", strconv.Itoa(refusal.TriesLeft))
	case verify.SessionExpired:
		return p.Expired
	case verify.Limited:
		return strings.ReplaceAll(p.Limited, "{wait}", span(p, refusal.RetryAfter))
	case verify.TooLarge, verify.NotJSON, verify.BadJSON, verify.Denied, verify.InUse, verify.NotAssociated,
		verify.DestinationRejected, verify.SendFailed, verify.ServerNotTrusted, verify.MissingToken, verify.UnknownToken, verify.AuthFailed,
		verify.AuthFailedLegacy, verify.CheckFailed: // of other endpoints, of a body, or on our side
	}
	return p.Failed
}

// span is a time to wait, in a unit whose number can be grasped.
func span(p texts.Page, wait time.Duration) string {
	if wait > 2*time.Hour {
		return fmt.Sprintf("%.0f %s", math.Ceil(wait.Hours()), p.Hours)
	}
	return fmt.Sprintf("%.0f %s", math.Ceil(wait.Minutes()), p.Minutes)
}
