package limit

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strings"

	"example.com/threepid/store"
)

// rangeDigits is how many of a number's last digits its range leaves open.
const rangeDigits = 4

// Subject is what an SMS or a code is charged to. Nothing is charged to the zero value.
type Subject struct {
	MSISDN  string
	Country string // of the number
	Client  string // see ClientName; empty: no client
	Prefix  string // the client's network, for the log
	Guarded bool   // the guard judges it
}

// The marks that begin a client's name and are followed by the digest of its network.
const (
	ipv4Mark = "."
	ipv6Mark = ":"
)

// networkDigits is the number of digits of that digest.
const networkDigits = 16

// ClientName returns the name of a client in rows. It is a digest, because no row needs the
// address. All addresses of an IPv6 /64 have the same name.
//
// After a mark, the name contains a digest of the client's network: the /24 of an IPv4 address, or
// the /48 of an IPv6 address, because providers assign a complete /48 to one customer. prefix is
// that network. A client that is not an address has no network.
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
	return digest("client", masked(addr, subnet)) + mark + digest("network", prefix)[:networkDigits], prefix
}

func masked(addr netip.Addr, bits int) string { return netip.PrefixFrom(addr, bits).Masked().String() }

func digest(kind, of string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + of))
	return hex.EncodeToString(sum[:16])
}

// network returns the digest of the client's network, or an empty string.
func (s Subject) network() string {
	if i := strings.IndexAny(s.Client, ipv4Mark+ipv6Mark); i >= 0 {
		return s.Client[i+1:]
	}
	return ""
}

// Range returns the digits that all numbers of the range begin with.
func (s Subject) Range() string { return s.MSISDN[:max(0, len(s.MSISDN)-rangeDigits)] }

// suffix returns the last digits of the number, which are not part of the range.
func (s Subject) suffix() int64 {
	n := int64(0)
	for _, digit := range s.MSISDN[len(s.Range()):] {
		n = n*10 + int64(digit-'0')
	}
	return n
}

// shortName shortens a name, but not so much that two clients with the same name could be found.
const shortName = 12

// clientKey is the client's key in the tables of a record.
func (s Subject) clientKey() string { return s.Client[:min(len(s.Client), shortName)] }

// customerKey is the client's key for the reserve and the guard. All clients of an IPv6 network
// share one, because one customer may own the network.
func (s Subject) customerKey() string {
	if _, network, ok := strings.Cut(s.Client, ipv6Mark); ok {
		return network[:shortName]
	}
	return s.clientKey()
}

// askerKey is the client's key where the guard counts clients. Requests without a client, such as
// those of a homeserver, come from different people, so each number counts as a client.
func (s Subject) askerKey() string {
	if s.Client == "" {
		return digest("asker", s.MSISDN)[:shortName]
	}
	return s.customerKey()
}

// rangeKey is the range's key in the tables of a record.
func (s Subject) rangeKey() string { return digest("range", s.Range())[:shortName] }

// Kind is the kind of subject of a record.
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
