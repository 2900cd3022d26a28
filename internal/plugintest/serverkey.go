package plugintest

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"example.com/threepid"
)

// serverKeyTests are about the server keys with which codes are made.
func serverKeyTests() []test {
	return []test{
		{"ServerKeyIsReplaced", testServerKeyIsReplaced},
		{"ServerKeyIsRemoved", testServerKeyIsRemoved},
		{"ServerKeyIsIntroduced", testServerKeyIsIntroduced},
		{"ServerKeysAreCopied", testServerKeysAreCopied},
	}
}

func serverKey(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }

// nodesWithKeys returns a function that starts another node over one store, with server keys and a
// time.
func nodesWithKeys(t *testing.T, open opener) func(since time.Duration, keys ...byte) *node {
	t.Helper()
	st := open(t)
	return func(since time.Duration, keys ...byte) *node {
		t.Helper()
		n := start(t, st, func(o *threepid.Options) {
			for _, key := range keys {
				o.ServerKeys = append(o.ServerKeys, serverKey(key))
			}
		})
		n.clock.advance(since)
		return n
	}
}

// testServerKeyIsReplaced checks that codes made with a key count, and are sent again, while the
// key is in the list.
func testServerKeyIsReplaced(t *testing.T, open opener) {
	node := nodesWithKeys(t, open)
	old := node(0, 1)
	sid := old.mustRequest(addPath, attempt(1)).text("sid")
	code := old.token()

	both := node(time.Minute, 2, 1)
	both.mustRequest(addPath, attempt(2))
	if both.token() != code {
		t.Error("a resend within the code's lifetime brought another one")
	}
	expect(t, old.submit(sid, secret, wrong(code)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expect(t, both.submit(sid, secret, code), http.StatusOK, "")

	// A new code is made with the first key and needs no other.
	both.clock.advance(11 * time.Minute)
	both.mustRequest(addPath, attempt(3))
	expect(t, node(12*time.Minute, 2).submit(sid, secret, both.token()), http.StatusOK, "")
}

// testServerKeyIsRemoved checks that a code is void once its key is removed, and that the next SMS
// has a code that counts.
func testServerKeyIsRemoved(t *testing.T, open opener) {
	for name, keys := range map[string][]byte{"another": {2}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := nodesWithKeys(t, open)
			old := node(0, 1)
			sid := old.mustRequest(addPath, attempt(1)).text("sid")
			n := node(time.Minute, keys...)
			for range 7 { // these are not counted
				expect(t, n.submit(sid, secret, old.token()), http.StatusBadRequest, "M_SESSION_EXPIRED")
			}
			n.mustRequest(addPath, attempt(2))
			if n.token() == old.token() { // by chance, once in a million
				t.Error("the resend brought the old code")
			}
			expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
			if name == "another" { // no code is right now, and neither is an empty one
				expect(t, node(2*time.Minute).submit(sid, secret, " "), http.StatusBadRequest, "M_SESSION_EXPIRED")
			}
		})
	}
}

// testServerKeyIsIntroduced checks that a code made without a key counts; the next SMS has one made
// with it.
func testServerKeyIsIntroduced(t *testing.T, open opener) {
	node := nodesWithKeys(t, open)
	old := node(0)
	sid := old.mustRequest(addPath, attempt(1)).text("sid")
	n := node(time.Minute, 1)
	expect(t, n.submit(sid, secret, old.token()), http.StatusOK, "")
	n.mustRequest(addPath, attempt(2))
	if n.token() == old.token() {
		t.Error("a code made without a key was sent again")
	}
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}

func testServerKeysAreCopied(t *testing.T, open opener) {
	key := serverKey(1)
	n := start(t, open(t), func(o *threepid.Options) { o.ServerKeys = [][]byte{key} })
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	clear(key)
	expect(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}
