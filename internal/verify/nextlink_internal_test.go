package verify

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// oddLinks returns links that some parsers read as leading to another host.
func oddLinks() []string {
	return []string{
		`https://app.example.org\@evil.example/`, `https://evil.example\.app.example.org/`, `https:\\evil.example/`,
		"https:/evil.example", "https:evil.example", "https:///evil.example/", "https://///evil.example",
		"https://app.example.org@evil.example/", "https://app.example.org:443@evil.example/", "https://evil.example#@app.example.org/",
		"https://evil.example?@app.example.org/", "https://app.example.org:evil.example/", "https://app.example.org:99999/",
		"https://app.example.org:/", "https://app.example.org:0/", "https://app。example.org/", "https://ａｐｐ.example.org/",
		"https://app.example.org。evil.example/", "https://app%2eexample.org/", "https://%61pp.example.org/",
		"https://app.example.org%00.evil.example/", "https://app.example.org%2f.evil.example/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
		"https://2130706433/", "https://0x7f.1/", "https://0x7f000001/", "https://127.1/", "https://127.0.0.1./", "https://0177.0.0.1/", "https://1.2.3.4.5/",
		"https://foo.0x/", "https://app.example.org\t.evil.example/", "https://ev\nil.example/", " https://evil.example/", "\x01https://evil.example/",
		"https://evil.example\x00/", "https://app.example.org /", "https://evil.example/\\..\\app.example.org",
		`https://app.example.org/a\b`, "https://app.example.org/a b", "https://app.example.org/#a b",
		"HTTPS://EVIL.EXAMPLE/", "https://app.example.org.evil.example/", "https://app.example.org..evil.example/", "https://-/", "https://a,b/",
	}
}

func TestOddNextLinksAreRefused(t *testing.T) {
	t.Parallel()
	for _, link := range oddLinks() {
		if err := checkNextLink(link, []string{"app.example.org"}); err == nil {
			t.Errorf("accepted %q", link)
		}
	}
	for _, number := range []string{"2130706433", "0x7f.1", "0X7F000001", "127.1", "127.0.0.1.", "0177.0.0.1", "1.2.3.4.5", "foo.0x", "foo.1"} {
		if err := checkNextLink("https://"+number+"/", nil); err == nil {
			t.Errorf("accepted the number %s for a host name", number)
		}
	}
	for _, link := range []string{
		"https://app.example.org", "https://APP.example.org:8443/x?y=@evil.example#\u00fc", "http://app.example.org/?next=https:%5C%5Cevil",
	} {
		if err := checkNextLink(link, []string{"app.example.org"}); err != nil {
			t.Errorf("refused %q: %v", link, err)
		}
	}
	for _, link := range []string{"https://127.0.0.1:8080/", "http://[2001:db8::1]/", "http://localhost/", "https://a.1b/", "https://x_y.example./"} {
		if err := checkNextLink(link, nil); err != nil {
			t.Errorf("refused %q: %v", link, err)
		}
	}
}

// FuzzNextLink checks that an accepted link leads a browser to a host of the list.
func FuzzNextLink(f *testing.F) {
	for _, seed := range append(oddLinks(), "https://app.example.org/", "http://127.0.0.1:80/a?b#c", "http://[::1]:8080/") {
		f.Add(seed)
	}
	allowed := []string{"app.example.org", "127.0.0.1", "::1"}
	f.Fuzz(func(t *testing.T, link string) {
		if checkNextLink(link, allowed) != nil {
			return
		}
		if host := browsersHost(link); !slices.Contains(allowed, host) {
			t.Errorf("%q leads a browser to %q", link, host)
		}
	})
}

// browsersHost returns the host of an http or https URL as browsers parse it (WHATWG URL Standard,
// sections 4.4 and 3.5), for ASCII.
func browsersHost(link string) string {
	link = strings.TrimFunc(link, func(r rune) bool { return r <= ' ' })
	link = strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/").Replace(link)
	_, rest, _ := strings.Cut(link, ":")
	rest = strings.TrimLeft(rest, "/")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	rest = rest[strings.LastIndex(rest, "@")+1:]
	if strings.HasPrefix(rest, "[") {
		inside, _, _ := strings.Cut(rest[1:], "]")
		return inside
	}
	host, _, _ := strings.Cut(rest, ":")
	host, err := url.PathUnescape(host)
	if err != nil {
		return "no host"
	}
	return asIPv4(strings.ToLower(host))
}

// asIPv4 returns the IPv4 address that a host denotes, in any notation, or else the host.
func asIPv4(host string) string {
	parts := strings.Split(strings.TrimSuffix(host, "."), ".")
	numbers := make([]uint64, len(parts))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 0, 32) // accepts 0x and a leading 0, as browsers do
		if err != nil {
			return host
		}
		numbers[i] = n
	}
	if len(parts) > 4 {
		return "no address"
	}
	address := numbers[len(numbers)-1]
	for i, n := range numbers[:len(numbers)-1] {
		address += n << (8 * (3 - i))
	}
	var quad []string
	for shift := 24; shift >= 0; shift -= 8 {
		quad = append(quad, strconv.FormatUint(address>>shift&0xff, 10))
	}
	return strings.Join(quad, ".")
}
