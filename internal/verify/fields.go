package verify

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/threepid/store"
)

const (
	maxOpaqueLength   = 255  // bytes of a client_secret or sid: Matrix client-server API, "opaque identifiers"
	maxNextLinkLength = 2048 // bytes
)

// maxAttempt is the greatest send_attempt: the greatest integer that canonical
// JSON allows.
const maxAttempt int64 = 1<<53 - 1

// Request asks for a token to be sent.
type Request struct {
	Purpose      store.Purpose
	ClientSecret string
	Country      string
	PhoneNumber  string
	Attempt      int64
	NextLink     string
	HasNextLink  bool
	IDServer     string // the identity server that the client names; may be empty

	Client string              // the key used for rate limiting; empty: limits by client do not apply
	Header map[string][]string // for the host's own hook

	AcceptLanguage string // RFC 9110; not validated
}

// Submission submits a token.
type Submission struct {
	SID          string
	ClientSecret string
	Token        string

	Client string // as in a Request
}

// check applies the rules of all fields except the phone number.
func (r Request) check(nextLinkHosts []string) error {
	if !isOpaque(r.ClientSecret) {
		return Errorf(InvalidParam,
			"client_secret must be 1 to 255 characters out of a-z, A-Z, 0-9, '.', '=', '_' and '-'")
	}
	if r.Attempt < 0 || r.Attempt > maxAttempt {
		return Errorf(InvalidParam, "send_attempt must be an integer from 0 to %d", maxAttempt)
	}
	if r.HasNextLink {
		return checkNextLink(r.NextLink, nextLinkHosts)
	}
	return nil
}

// isOpaque reports whether s has the grammar of client_secret and sid.
func isOpaque(s string) bool {
	if s == "" || len(s) > maxOpaqueLength {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case c == '.', c == '=', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// checkNextLink accepts only links that every browser parses as Go does. A redirect could
// otherwise lead to a host that was not checked.
func checkNextLink(link string, hosts []string) error {
	if len(link) > maxNextLinkLength {
		return Errorf(InvalidParam, "next_link must have at most %d bytes", maxNextLinkLength)
	}
	u, err := url.Parse(link)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return Errorf(InvalidParam, "next_link must be an absolute http or https URL")
	}
	if u.User != nil {
		return Errorf(InvalidParam, "next_link must have no user name or password")
	}
	if !utf8.ValidString(link) || strings.ContainsFunc(link, unsafeInURL) || !ValidHost(u.Host) {
		return Errorf(InvalidParam, "next_link must have no spaces, control characters or backslashes, and an ASCII host name")
	}
	if len(hosts) > 0 && !slices.Contains(hosts, strings.ToLower(u.Hostname())) {
		return Errorf(InvalidParam, "next_link must lead to a host that this server allows")
	}
	return nil
}

func unsafeInURL(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f }

// ValidHost reports whether s is a host name or IP address, with or without a
// port, as in a URL or a Host header.
func ValidHost(s string) bool {
	u, err := url.Parse("http://" + s)
	if err != nil || u.Host != s || u.User != nil || strings.HasSuffix(s, ":") {
		return false
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Is6() == strings.HasPrefix(s, "[")
	}
	last := ""
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		if label == "" || strings.ContainsFunc(label, notInHost) {
			return false
		}
		last = label
	}
	return !isNumber(last)
}

// isNumber reports whether browsers take a host with this last label for an
// IPv4 address: 0x7f.1 leads to 127.0.0.1, as 2130706433 does (WHATWG URL,
// "ends in a number checker").
func isNumber(label string) bool {
	digits, hex := strings.CutPrefix(strings.ToLower(label), "0x")
	if hex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func notInHost(r rune) bool {
	return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
}
