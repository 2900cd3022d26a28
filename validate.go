package threepid

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.com/threepid/internal/verify"
	"example.com/threepid/store"
)

const (
	maxTokenDigits     = 9
	maxSendTimeout     = time.Minute
	minServerKeyLength = 32 // bytes
	maxBrandLength     = 40 // characters; the text must stay one SMS
)

// validate returns an error that names each invalid field.
func (o Options) validate() error {
	return errors.Join(o.validateRoutes(), o.validateAccounts(), o.validateMessages(), o.validateRanges(),
		inOptions(o.Limits.Validate()), inOptions(o.Guard.Validate()), inOptions(o.Policy.Validate(o.TokenDigits)))
}

// inOptions puts "threepid: Options." before the name of the field with which an error begins.
func inOptions(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("threepid: Options.%w", err)
}

func (o Options) validateRoutes() error {
	errs := []error{validateBasePath(o.BasePath), validatePublicURL(o.PublicURL)}
	for _, e := range o.OmitEndpoints {
		if !slices.Contains(endpoints(), e) {
			errs = append(errs, fmt.Errorf("threepid: Options.OmitEndpoints: there is no endpoint %q; use the Endpoint constants", e))
		}
	}
	for _, host := range o.NextLinkHosts {
		if !verify.ValidHost(host) || strings.Contains(host, ":") {
			errs = append(errs, fmt.Errorf("threepid: Options.NextLinkHosts: %q is not a host name; remove scheme, port and path", host))
		}
	}
	return errors.Join(errs...)
}

func validateBasePath(p string) error {
	switch {
	case !strings.HasPrefix(p, "/") || p != path.Clean(p):
		return fmt.Errorf("threepid: base path %q must begin with a slash, not end with one, and be clean, such as %q", p, defaultBasePath)
	case strings.ContainsAny(p, ":*?#%\\ "):
		return fmt.Errorf("threepid: base path %q must not contain wildcards, spaces, escapes or a query", p)
	}
	return nil
}

func validatePublicURL(s string) error {
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

func (o Options) validateAccounts() error {
	var errs []error
	if _, lookUp := o.Accounts.(store.OwnerFunc); lookUp && o.mountsAccount() {
		errs = append(errs, errors.New("threepid: Options.Authenticate mounts the endpoints for an account's numbers, but Options.Accounts, "+
			"a store.OwnerFunc, can only look numbers up: implement store.Accounts, or omit these endpoints with Options.OmitEndpoints"))
	}
	if o.Delegate != nil && o.ConcealAccounts {
		errs = append(errs, errors.New("threepid: Options.ConcealAccounts cannot be combined with a Delegate: "+
			"it needs the plugin's own texts, and the service of the Delegate determines the texts"))
	}
	return errors.Join(errs...)
}

func (o Options) validateMessages() error {
	var errs []error
	if brand := o.Messages.Brand; utf8.RuneCountInString(brand) > maxBrandLength || strings.ContainsFunc(brand, unicode.IsControl) {
		errs = append(errs, fmt.Errorf("threepid: Options.Messages.Brand must be one line of at most %d characters", maxBrandLength))
	}
	domain := o.Messages.WebOTPDomain
	if domain != "" && (strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || strings.HasSuffix(domain, ".") ||
		!verify.ValidHost(domain) || net.ParseIP(domain) != nil) {
		errs = append(errs, fmt.Errorf("threepid: Options.Messages.WebOTPDomain: %q is not a host name in lower-case ASCII without scheme, port and path, "+
			"such as example.com", domain))
	}
	if hash := o.Messages.AndroidAppHash; hash != "" && !regexp.MustCompile(`^[A-Za-z0-9+/]{11}$`).MatchString(hash) {
		errs = append(errs, errors.New("threepid: Options.Messages.AndroidAppHash must be the app's hash, 11 characters of base64"))
	}
	return errors.Join(errs...)
}

// validateRanges checks lengths and durations.
func (o Options) validateRanges() error {
	var errs []error
	if o.TokenDigits < defaultTokenDigits || o.TokenDigits > maxTokenDigits {
		errs = append(errs, fmt.Errorf("threepid: Options.TokenDigits must be %d to %d, not %d",
			defaultTokenDigits, maxTokenDigits, o.TokenDigits))
	}
	for i, key := range o.ServerKeys {
		if len(key) < minServerKeyLength {
			errs = append(errs, fmt.Errorf("threepid: Options.ServerKeys[%d] has %d bytes: each key must have at least %d, from crypto/rand",
				i, len(key), minServerKeyLength))
		}
	}
	if o.SendTimeout < time.Millisecond || o.SendTimeout > maxSendTimeout {
		errs = append(errs, fmt.Errorf("threepid: Options.SendTimeout must be 1ms to %v, not %v", maxSendTimeout, o.SendTimeout))
	}
	if o.BodyTimeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("threepid: Options.BodyTimeout must be 1ms or more, not %v", o.BodyTimeout))
	}
	if o.TokenLifetime <= o.SendTimeout {
		errs = append(errs, fmt.Errorf("threepid: Options.TokenLifetime must be longer than SendTimeout (%v), but is %v",
			o.SendTimeout, o.TokenLifetime))
	}
	if o.SessionLifetime < o.TokenLifetime {
		errs = append(errs, fmt.Errorf("threepid: Options.SessionLifetime must not be shorter than TokenLifetime (%v), but is %v",
			o.TokenLifetime, o.SessionLifetime))
	}
	return errors.Join(errs...)
}
