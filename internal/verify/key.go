package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"example.com/threepid/store"
)

// serverKeys are keys that are in no row: reading the database does not give the
// tokens of sessions, not even to the client that has their secrets. The first is
// for new tokens, the others still check the tokens made with them. The zero value
// has none.
type serverKeys struct {
	first string // its ID; empty: none
	byID  map[string][]byte
}

func newServerKeys(keys [][]byte) serverKeys {
	k := serverKeys{byID: make(map[string][]byte, len(keys))}
	for _, key := range slices.Backward(keys) {
		sum := sha256.Sum256(append([]byte("threepid server key\x00"), key...))
		k.first = hex.EncodeToString(sum[:8])
		k.byID[k.first] = slices.Clone(key)
	}
	return k
}

// of returns the key of the session's MACs, the server key before the nonce, and
// whether the server key is known. A session stored before there were any has none.
func (k serverKeys) of(s store.Session) (key []byte, known bool) {
	server, known := k.byID[s.KeyID]
	return append(slices.Clip(server), s.Nonce...), known || s.KeyID == ""
}

// outdated reports whether another SMS must bring another token: the key of this one
// is unknown, or it was made without one and there is one now.
func (k serverKeys) outdated(s store.Session) bool {
	_, known := k.of(s)
	return !known || s.KeyID == "" && k.first != ""
}
