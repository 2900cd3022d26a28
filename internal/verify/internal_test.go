package verify

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"example.com/threepid/sms"
	"example.com/threepid/store"
)

var spans = lifetimes{token: 10 * time.Minute, session: 24 * time.Hour, lease: 15 * time.Second}

const minute = int64(60_000) // in milliseconds

func fresh(n byte) secrets {
	return secrets{sid: "sid" + string('a'+n), nonce: bytes.Repeat([]byte{n}, nonceSize), claimID: "claim" + string('a'+n)}
}

// claimedSession returns a new session whose attempt 1 was claimed at time 0.
func claimedSession() store.Session {
	s := newSession(store.Key{1}, "447700900001", "GB", fresh(1), 0)
	return claimed(s, Request{Attempt: 1, Purpose: store.PurposeAdd}, false, "", fresh(1), spans, 0)
}

func TestAttemptStates(t *testing.T) {
	t.Parallel()
	s := claimedSession()
	lease := spans.lease.Milliseconds()
	for _, row := range []struct {
		name    string
		s       store.Session
		attempt int64
		now     int64
		want    attemptState
	}{
		{"new", newSession(store.Key{}, "1", "GB", fresh(1), 0), 0, 0, claimable},
		{"claimed", s, 1, 1, inFlight},
		{"claimed, a greater attempt", s, 2, 1, inFlight},
		{"just before the lease ends", s, 1, lease - 1, inFlight},
		{"lease over", s, 1, lease, claimable},
		{"accepted", settled(s, claim{sess: s}, store.OutcomeAccepted), 1, 1, sent},
		{"accepted, smaller attempt", settled(s, claim{sess: s}, store.OutcomeAccepted), 0, 1, sent},
		{"accepted, greater attempt", settled(s, claim{sess: s}, store.OutcomeAccepted), 2, 1, claimable},
		{"failed", settled(s, claim{sess: s}, store.OutcomeFailed), 1, 1, claimable},
	} {
		if got := attemptStateOf(row.s, row.attempt, row.now); got != row.want {
			t.Errorf("%s: %d, want %d", row.name, got, row.want)
		}
	}
}

// TestOutcomeOfALateClaim lets another request take over a claim before its first owner returns.
func TestOutcomeOfALateClaim(t *testing.T) {
	t.Parallel()
	first := claimedSession()
	second := claimed(first, Request{Attempt: 1, Purpose: store.PurposeAdd}, false, "", fresh(2), spans, minute)
	if got := settled(second, claim{sess: first}, store.OutcomeFailed); got.LeaseUntil != second.LeaseUntil || got.Attempt != -1 {
		t.Error("a late failure ended another's claim")
	}
	got := settled(second, claim{sess: first}, store.OutcomeAccepted)
	if got.Attempt != 1 || got.LeaseUntil != second.LeaseUntil {
		t.Error("a late success does not count, or ended another's claim")
	}
	if got := settled(got, claim{sess: store.Session{ClaimID: "x"}}, store.OutcomeAccepted); got.Attempt != 1 {
		t.Error("the attempt decreased")
	}
}

// TestHandleOfALateClaim records a delegate's handle after another request has taken over the
// claim. The handle is used if there is no other one and the token is the same.
func TestHandleOfALateClaim(t *testing.T) {
	t.Parallel()
	first := claimedSession()
	again := Request{Attempt: 2, Purpose: store.PurposeAdd}
	second := claimed(first, again, false, "", fresh(2), spans, minute)
	answered := settled(second, claim{sess: second, handle: "newer"}, store.OutcomeAccepted)
	again.Purpose = store.PurposePassword
	for _, row := range []struct {
		name string
		now  store.Session
		want string
	}{
		{"nobody else's came", second, "older"},
		{"another's failed", settled(second, claim{sess: second}, store.OutcomeFailed), "older"},
		{"another's came", answered, "newer"},
		{"of a token that is no longer", claimed(first, again, false, "", fresh(2), spans, minute), ""},
	} {
		if got := settled(row.now, claim{sess: first, handle: "older"}, store.OutcomeAccepted).DelegateID; got != row.want {
			t.Errorf("%s: the handle is %q, want %q", row.name, got, row.want)
		}
	}
}

func TestTokenDependsOnAllItsParts(t *testing.T) {
	t.Parallel()
	s := claimedSession()
	all := map[string]string{"": token(s.Nonce, s, "secret", 9)}
	other := s
	other.Nonce = fresh(2).nonce
	all["nonce"] = token(other.Nonce, other, "secret", 9)
	other = s
	other.SID = "another"
	all["sid"] = token(other.Nonce, other, "secret", 9)
	other = s
	other.Purpose = store.PurposePassword
	all["purpose"] = token(other.Nonce, other, "secret", 9)
	all["client_secret"] = token(s.Nonce, s, "Secret", 9)
	for i := range byte(2) {
		keys := newServerKeys([][]byte{bytes.Repeat([]byte{i}, 32)})
		if key, known := keys.of(s); !known || token(key, s, "secret", 9) != all[""] {
			t.Error("a session without a server key has another token once there is one")
		}
		other = s
		other.KeyID = keys.first
		key, _ := keys.of(other)
		all["server key "+string('a'+i)] = token(key, other, "secret", 9)
	}
	different := map[string]bool{}
	for name, code := range all {
		if len(code) != 9 || strings.Trim(code, "0123456789") != "" {
			t.Errorf("%s: token %q", name, code)
		}
		different[code] = true
	}
	if len(different) != len(all) {
		t.Errorf("tokens %v", all)
	}
}

// TestTokensAreUniform sorts many tokens into a hundred bins. A truncation that prefers some values
// would make guessing easier.
func TestTokensAreUniform(t *testing.T) {
	t.Parallel()
	const n = 20_000
	var bins [100]int
	s := claimedSession()
	for i := range n {
		s.Nonce = []byte{byte(i), byte(i >> 8), byte(i >> 16), 7}
		code := token(s.Nonce, s, "secret", 6)
		bins[int(code[0]-'0')*10+int(code[5]-'0')]++
	}
	chi := 0.0
	for _, count := range bins {
		d := float64(count) - n/100
		chi += d * d / (n / 100)
	}
	if chi > 170 { // 99 degrees of freedom: about one in 100,000 by chance, and the input is fixed
		t.Errorf("chi-square %.0f", chi)
	}
}

func TestMessageID(t *testing.T) {
	t.Parallel()
	s := claimedSession()
	again := claimed(s, Request{Attempt: 1, Purpose: store.PurposeAdd}, false, "", fresh(2), spans, minute)
	if messageID(s, 1) != messageID(again, 1) {
		t.Error("another try of one attempt is another message")
	}
	if messageID(s, 1) == messageID(s, 2) {
		t.Error("two attempts are one message")
	}
	later := claimed(s, Request{Attempt: 1, Purpose: store.PurposeAdd}, false, "", fresh(2), spans, 11*minute)
	if messageID(s, 1) == messageID(later, 1) {
		t.Error("an SMS with a new code would be dropped as a duplicate")
	}
}

func TestSIDOrderAndGrammar(t *testing.T) {
	t.Parallel()
	last := ""
	for ms := int64(0); ms < 1<<46; ms = ms*3 + 1 {
		sid := newSID(time.UnixMilli(ms), bytes.Repeat([]byte{0xff}, sidRandom))
		if !isOpaque(sid) || sid <= last {
			t.Fatalf("sid %q after %q", sid, last)
		}
		last = sid
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	got := redact("to +447700900001 (07700900001): 123456 is your code; 4477 stays", "123456",
		sms.Message{To: "+447700900001", Country: "GB"})
	for _, s := range []string{"7700900001", "123456"} {
		if strings.Contains(got, s) {
			t.Errorf("%q stayed in %q", s, got)
		}
	}
	if !strings.Contains(got, "4477 stays") {
		t.Errorf("too much was removed: %q", got)
	}
}

func TestHumanly(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Millisecond: "a second", 2 * time.Second: "2 seconds", 61 * time.Second: "2 minutes",
		time.Minute: "60 seconds", 2 * time.Hour: "120 minutes", 3 * time.Hour: "3 hours", 49 * time.Hour: "3 days", 13 * 24 * time.Hour: "13 days",
	} {
		if got := roundForHumans(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

// TestValidatedForgivesTries submits the right code after wrong ones, twice. Each time, it
// validates the number again.
func TestValidatedForgivesTries(t *testing.T) {
	t.Parallel()
	s := claimedSession()
	s.WrongTries, s.Texts, s.ClientTexts = maxTries, 2, 1
	for _, at := range []int64{minute, 2 * minute} {
		if s = validated(s, spans, at); s.WrongTries != 0 || s.Texts != 0 || s.ClientTexts != 0 || s.ValidatedAt != at {
			t.Errorf("%+v", s)
		}
		s.WrongTries, s.Texts, s.ClientTexts = maxTries, 1, 1
	}
}
