package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestGuessersAreBounded sends wrong tokens from more clients than are tracked.
func TestGuessersAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	g := newGuesses(2, func() time.Time { return now })
	try := func(client int, right bool) (compared bool) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = fmt.Sprintf("10.%d.%d.1:1234", client>>8, client&255)
		got, compared := g.try(r, func() bool { return right })
		if got != (right && compared) {
			t.Errorf("client %d: token right: %v", client, got)
		}
		return compared
	}
	for client := range maxGuessers {
		if !try(client, false) {
			t.Fatalf("the first token of client %d was not compared", client)
		}
	}
	if try(maxGuessers, true) || len(g.wrong) != maxGuessers {
		t.Errorf("the token of one more client was compared, or more clients than the maximum are tracked: %d", len(g.wrong))
	}
	if !try(0, true) || !try(0, false) || try(0, true) {
		t.Error("a tracked client was not allowed exactly two wrong tokens")
	}
	if now = now.Add(time.Minute); !try(maxGuessers, true) {
		t.Error("a minute later, the token of the client was not compared")
	}
}
