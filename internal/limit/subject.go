package limit

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"

	"example.com/threepid/store"
)

// rangeDigits is how many digits at the end of a number distinguish it from the
// others of its range.
const rangeDigits = 4

// Subject is what an SMS or a code counts for. The zero value is for those that
// count for nothing.
type Subject struct {
	MSISDN  string
	Country string // of the number
	Client  string // see ClientName; empty: nobody in particular
	Prefix  string // the client's network, for the log
	Guarded bool   // the guard judges it
}

// What precedes the digest of a client's network in its name.
const (
	ipv4Mark = "."
	ipv6Mark = ":"
)

// ClientName returns the name of a client in rows: a digest, because no row needs the
// address. One IPv6 address stands for its /64.
//
// A digest of the client's network follows after a mark, and prefix is that
// network: a /24, or of IPv6 addresses a /48, which is 65,536 clients and given to
// single customers. A client that is not an address has none.
func ClientName(client string) (name, prefix string) {
	if client == "" {
		return "", ""
	}
	addr, err := netip.ParseAddr(client)
	if err != nil {
		return digest("client", client), ""
	}
	addr = addr.Unmap().WithZone("")
	subnet, network, mark := 64, 48, ipv6Mark
	if addr.Is4() {
		subnet, network, mark = 32, 24, ipv4Mark
	}
	prefix = masked(addr, network)
	return digest("client", masked(addr, subnet)) + mark + digest("network", prefix)[:16], prefix
}

func masked(addr netip.Addr, bits int) string { return netip.PrefixFrom(addr, bits).Masked().String() }

func digest(kind, of string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + of))
	return hex.EncodeToString(sum[:16])
}

// network returns the digest of the client's network; it is empty for clients without one.
func (s Subject) network() string {
	if i := strings.IndexAny(s.Client, ipv4Mark+ipv6Mark); i >= 0 {
		return s.Client[i+1:]
	}
	return ""
}

// Range returns the beginning that all numbers of the range have in common.
func (s Subject) Range() string { return s.MSISDN[:max(0, len(s.MSISDN)-rangeDigits)] }

// suffix returns what distinguishes the number from the others of its range.
func (s Subject) suffix() int64 {
	n := int64(0)
	for _, digit := range s.MSISDN[len(s.Range()):] {
		n = n*10 + int64(digit-'0')
	}
	return n
}

// shortName is long enough that nobody finds a client with the name of another.
const shortName = 12

// clientKey is the client as tables inside records know it.
func (s Subject) clientKey() string { return s.Client[:min(len(s.Client), shortName)] }

// customerKey is the client as the reserve and the guard know it: of IPv6 clients the
// network, since one customer may have all of it.
func (s Subject) customerKey() string {
	if _, network, ok := strings.Cut(s.Client, ipv6Mark); ok {
		return network[:shortName]
	}
	return s.clientKey()
}

// askerKey is the client as the guard counts those that asked. Requests without a client,
// such as those of a homeserver, are of different people: each number counts as one.
func (s Subject) askerKey() string {
	if s.Client == "" {
		return digest("asker", s.MSISDN)[:shortName]
	}
	return s.customerKey()
}

// rangeKey is the range as tables inside records know it.
func (s Subject) rangeKey() string { return digest("range", s.Range())[:shortName] }

// Kind is the kind of subject that a record is about.
type Kind string

// The kinds of records.
const (
	Number  Kind = "number"
	Client  Kind = "client"
	Range   Kind = "range"
	Country Kind = "country" // the budget of a country, see Budgets
	Global  Kind = "global"  // the budget of the host
)

// Key returns the key of the record of a kind.
func (s Subject) Key(of Kind) store.Key {
	switch of {
	case Number:
		return store.RecordKey(string(of), s.MSISDN)
	case Client:
		return store.RecordKey(string(of), s.Client)
	case Range:
		return store.RecordKey(string(of), s.Range())
	case Country:
		return store.RecordKey(string(of), s.Country)
	case Global:
	}
	return store.RecordKey(string(of))
}
