package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"example.com/threepid/store"
)

const (
	// blockDigits is how many digits at the end of a number tell it from the
	// others of its block.
	blockDigits = 4

	// wrongMemory is for how long after the latest wrong token a number's count
	// of them is kept.
	wrongMemory = 30 * 24 * time.Hour

	// askedMemory is for how long a client's number that has not validated keeps
	// it from asking for another one in a country that is closed.
	askedMemory = 24 * time.Hour

	// expiryStep is what the expiry of buckets is rounded up to: one that moved
	// with each change would make each change a change of the index, too.
	expiryStep = 10 * time.Minute
)

// guardShare is how many numbers one client may bring to the guards' notice: a
// single one must not be able to close a block, a country or a network to everybody else.
func guardShare() []Limit { return []Limit{{Burst: 4, Per: 15 * time.Minute}} }

// scope is what a bucket counts for.
type scope string

const (
	scopeNumber       scope = "number"
	scopeNumberClient scope = "number and client"
	scopeClient       scope = "client"
	scopeBlockClient  scope = "block and client"
	scopeBlock        scope = "block"
	scopeCountry      scope = "country"
	scopeAll          scope = "all"
	scopeNetwork      scope = "network" // of the client; for the guard alone
)

// of returns a scope's limits on texts and on wrong tokens.
func (l *Limits) of(s scope) (texts, wrong []Limit) {
	switch s {
	case scopeNumber:
		return l.Number, l.Wrong
	case scopeNumberClient:
		return l.NumberClient, l.WrongClient
	case scopeClient:
		return l.Client, l.Submit
	case scopeBlockClient:
		return l.BlockClient, nil
	case scopeBlock:
		return l.Block, nil
	case scopeCountry:
		return l.Country, nil
	case scopeAll:
		return l.All, nil
	case scopeNetwork:
	}
	return nil, nil
}

// subject is whom and what a text or a token counts against. The zero value is
// for those that count against nothing.
type subject struct {
	msisdn  string
	country string // of the number
	client  string // see clientName; empty: nobody in particular
	prefix  string // the client's network, for the log
	guarded bool
}

func (s *Service) subject(n Number, client string) subject {
	name, prefix := clientName(client)
	return subject{msisdn: n.MSISDN, country: n.Home(), client: name, prefix: prefix, guarded: s.Guard.watches(n)}
}

// network stands for the client's network; it is empty for clients without one.
func (s subject) network() string {
	if i := strings.IndexAny(s.client, ipv4Mark+ipv6Mark); i >= 0 {
		return s.client[i+1:]
	}
	return ""
}

func (s subject) block() string { return s.msisdn[:max(0, len(s.msisdn)-blockDigits)] }

// suffix is what tells the number from the others of its block.
func (s subject) suffix() int64 {
	n := int64(0)
	for _, digit := range s.msisdn[len(s.block()):] {
		n = n*10 + int64(digit-'0')
	}
	return n
}

// name stands for the number in the bucket of a client.
func (s subject) name() string {
	key := s.key(scopeNumber)
	return hex.EncodeToString(key[:8])
}

func (s subject) key(of scope) store.Key {
	switch of {
	case scopeNumber:
		return store.BucketKey(string(of), s.msisdn)
	case scopeNumberClient:
		return store.BucketKey(string(of), s.msisdn, s.client)
	case scopeClient:
		return store.BucketKey(string(of), s.client)
	case scopeBlockClient:
		return store.BucketKey(string(of), s.block(), s.client)
	case scopeBlock:
		return store.BucketKey(string(of), s.block())
	case scopeCountry:
		return store.BucketKey(string(of), s.country)
	case scopeNetwork:
		return store.BucketKey(string(of), s.network())
	case scopeAll:
	}
	return store.BucketKey(string(of))
}

// clientName stands for a client in rows: a digest, since no row need tell an
// address. Who has one IPv6 address has all of its /64.
//
// A digest of the client's network follows after a mark, and prefix is that
// network: a /24, or of IPv6 addresses a /48, which is 65,536 clients and given to
// single customers. A client that is no address has none.
func clientName(client string) (name, prefix string) {
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

// What precedes the digest of a client's network.
const (
	ipv4Mark = "."
	ipv6Mark = ":"
)

func masked(addr netip.Addr, bits int) string { return netip.PrefixFrom(addr, bits).Masked().String() }

func digest(kind, of string) string {
	sum := sha256.Sum256([]byte(kind + "\x00" + of))
	return hex.EncodeToString(sum[:16])
}

// watches tells whether the guard may close the number's block and country.
func (g Guard) watches(n Number) bool {
	for _, allowed := range g.Allow {
		if allowed == n.Home() || strings.HasPrefix(n.MSISDN, allowed) {
			return false
		}
	}
	return g.On
}

// bucketState is what a bucket remembers. Levels stand in the order of their
// limits; names are short because rows are many.
type bucketState struct {
	Texts      []int64 `json:"t,omitempty"` // levels of the limits on texts
	Wrong      []int64 `json:"w,omitempty"` // levels of the limits on wrong tokens
	WrongCount int     `json:"c,omitempty"` // numbers: wrong tokens since the last right one
	WrongAt    int64   `json:"a,omitempty"` // and when the latest came
	Share      []int64 `json:"s,omitempty"` // clients: level of guardShare

	Reserve      []int64          `json:"r,omitempty"` // numbers: levels of the reserve of texts
	Reserved     map[string]int64 `json:"m,omitempty"` // numbers: clients that took from it, and until when that is remembered
	ReserveCodes []int64          `json:"d,omitempty"` // numbers: levels of the reserve of codes

	Failed    []int64    `json:"f,omitempty"` // clients, numbers: levels of the limits on texts that did not leave
	Asked     string     `json:"k,omitempty"` // clients: the number that they asked for last, if it has not validated
	AskedIn   string     `json:"i,omitempty"` // and its country
	AskedAt   int64      `json:"l,omitempty"` // and when that was first
	Counted   int64      `json:"n,omitempty"` // numbers: when the guards counted it last
	Confirmed bool       `json:"v,omitempty"` // and whether it has validated since
	Guard     guardState `json:"g,omitzero"`  // blocks and countries
}

// entry is one bucket of a tally.
type entry struct {
	scope   scope
	bucket  store.Bucket
	state   bucketState
	changed bool
}

// tally is a unit of work's hold on the buckets of a subject.
type tally struct {
	service *Service
	subject subject
	now     int64
	entries []entry
	closed  []Closing // what the guards closed in this unit
}

// tally reads the buckets of a subject for those of the scopes that anything is
// counted for.
func (s *Service) tally(tx store.Tx, who subject, scopes ...scope) (*tally, error) {
	t := &tally{service: s, subject: who, now: s.now()}
	var keys []store.Key
	for _, of := range scopes {
		if s.counts(of, who) {
			t.entries = append(t.entries, entry{scope: of})
			keys = append(keys, who.key(of))
		}
	}
	if len(keys) == 0 {
		return t, nil
	}
	buckets, err := tx.Buckets(keys)
	if err != nil {
		return nil, err
	}
	for i, b := range buckets {
		e := &t.entries[i]
		e.bucket = b
		if b.State == "" || b.ExpiresAt <= t.now {
			continue
		}
		if err := json.Unmarshal([]byte(b.State), &e.state); err != nil {
			return nil, fmt.Errorf("threepid: the state of bucket %x of scope %q cannot be read: %w", b.Key[:4], e.scope, err)
		}
	}
	return t, nil
}

// counts tells whether anything is counted in a scope of the subject.
func (s *Service) counts(of scope, who subject) bool {
	if who.msisdn == "" {
		return false
	}
	texts, wrong := s.Limits.of(of)
	limited := len(texts) > 0 || len(wrong) > 0
	switch of {
	case scopeNumber:
		return limited || s.Limits.WrongMost > 0 || who.guarded || len(s.Limits.Failed) > 0
	case scopeClient:
		return who.client != "" && (limited || who.guarded || len(s.Limits.Failed) > 0)
	case scopeNumberClient, scopeBlockClient:
		return who.client != "" && limited
	case scopeBlock, scopeCountry:
		return limited || who.guarded
	case scopeNetwork:
		return who.guarded && who.network() != ""
	case scopeAll:
	}
	return limited
}

// put stores what has changed.
func (t *tally) put(tx store.Tx) error {
	var changed []store.Bucket
	for i := range t.entries {
		e := &t.entries[i]
		if !e.changed {
			continue
		}
		state, err := json.Marshal(e.state)
		if err != nil {
			return fmt.Errorf("threepid: write the state of a bucket: %w", err)
		}
		e.bucket.State, e.bucket.ExpiresAt = string(state), t.expires(e)
		changed = append(changed, e.bucket)
	}
	if len(changed) == 0 {
		return nil
	}
	return tx.PutBuckets(changed)
}

// expires is when a bucket is as good as absent.
func (t *tally) expires(e *entry) int64 {
	s := e.state
	at := t.now
	for _, levels := range [][]int64{s.Texts, s.Wrong, s.Share, s.Failed, s.Reserve, s.ReserveCodes, slices.Collect(maps.Values(s.Reserved))} {
		for _, level := range levels {
			at = max(at, level)
		}
	}
	if s.WrongCount > 0 {
		at = max(at, s.WrongAt+wrongMemory.Milliseconds())
	}
	if s.Counted > 0 {
		at = max(at, s.Counted+t.service.Guard.Window.Milliseconds())
	}
	if s.Asked != "" {
		at = max(at, s.AskedAt+askedMemory.Milliseconds())
	}
	at = max(at, s.Guard.expires(t.service.Guard))
	step := expiryStep.Milliseconds()
	return (at/step + 1) * step
}

// find returns the bucket of a scope, or nil.
func (t *tally) find(of scope) *entry {
	for i := range t.entries {
		if t.entries[i].scope == of {
			return &t.entries[i]
		}
	}
	return nil
}
