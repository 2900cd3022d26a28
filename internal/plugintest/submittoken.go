package plugintest

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/threepid"
)

// submitTokenTests are about the fields of submitToken's requests and responses.
func submitTokenTests() []test {
	return []test{
		{"SubmitRightToken", testSubmitRightToken},
		{"SubmitWrongToken", testSubmitWrongToken},
		{"SubmitUnknownSessionOrSecret", testSubmitUnknownSessionOrSecret},
		{"SubmitTokenPastItsLifetime", testSubmitTokenPastItsLifetime},
		{"SubmitTokenLivesUntilItsLifetime", testSubmitTokenLivesUntilItsLifetime},
		{"SubmitSessionPastItsLifetime", testSubmitSessionPastItsLifetime},
		{"SubmitFiveWrongTriesUseATokenUp", testSubmitFiveWrongTriesUseATokenUp},
		{"SubmitRightTokenAgainAfterWrongOnes", testSubmitRightTokenAgainAfterWrongOnes},
		{"ParallelGuessesGetFiveTries", testParallelGuessesGetFiveTries},
		{"SubmitMissingParameters", testSubmitMissingParameters},
		{"SubmitRefusesBadBodies", testSubmitRefusesBadBodies},
		{"SubmitForm", testSubmitForm},
		{"SubmitAsCurlSendsIt", testSubmitAsCurlSendsIt},
		{"SubmitTakesATokenAsPeopleTypeIt", testSubmitTakesATokenAsPeopleTypeIt},
		{"SubmitBoundsATokenBeforeReadingIt", testSubmitBoundsATokenBeforeReadingIt},
		{"NextLink", testNextLink},
		{"TokenDigits", testTokenDigits},
	}
}

type submitFunc = func(sid, clientSecret, token string) answer

// bothWays runs a test with POST requests and with GET requests, whose responses are of one kind.
func bothWays(t *testing.T, open opener, run func(t *testing.T, n *node, submit submitFunc)) {
	t.Run("POST", func(t *testing.T) {
		t.Parallel()
		n := start(t, open(t))
		run(t, n, n.submit)
	})
	t.Run("GET", func(t *testing.T) {
		t.Parallel()
		n := start(t, open(t))
		run(t, n, n.submitGet)
	})
}

// expectSubmit checks a POST's errcode and "success", or that the response to a GET is a page.
func expectSubmit(t *testing.T, a answer, status int, errcode string) {
	t.Helper()
	if a.fields == nil {
		expectPage(t, a, status)
		return
	}
	expect(t, a, status, errcode)
	if success, ok := a.fields["success"].(bool); !ok || success != (status == http.StatusOK) {
		t.Errorf("success is %v: %s", a.fields["success"], a.body)
	}
}

func expectPage(t *testing.T, a answer, status int) {
	t.Helper()
	if a.status != status || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(a.body, "<h1>") {
		t.Errorf("no page: %d %s %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("Content-Security-Policy %q", csp)
	}
	if a.header.Get("Referrer-Policy") != "no-referrer" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", a.header)
	}
	if strings.Contains(a.body, "http://") || strings.Contains(a.body, "https://") {
		t.Errorf("the page names another resource: %s", a.body)
	}
}

func testSubmitRightToken(t *testing.T, open opener) {
	bothWays(t, open, func(t *testing.T, n *node, submit submitFunc) {
		sid := n.mustRequest(addPath, attempt(1)).text("sid")
		expectSubmit(t, submit(sid, secret, n.token()), http.StatusOK, "")
		// The same code submitted again while the session exists succeeds, also after the code has
		// expired.
		n.clock.advance(time.Hour)
		expectSubmit(t, submit(sid, secret, n.token()), http.StatusOK, "")
	})
}

func testSubmitWrongToken(t *testing.T, open opener) {
	bothWays(t, open, func(t *testing.T, n *node, submit submitFunc) {
		sid := n.mustRequest(addPath, attempt(1)).text("sid")
		expectSubmit(t, submit(sid, secret, wrong(n.token())), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		for _, token := range []string{"0", n.token() + "0", n.token()[1:], strings.Repeat("x", 1000)} {
			expectSubmit(t, submit(sid, secret, token), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		}
	})
}

func testSubmitUnknownSessionOrSecret(t *testing.T, open opener) {
	bothWays(t, open, func(t *testing.T, n *node, submit submitFunc) {
		sid := n.mustRequest(addPath, attempt(1)).text("sid")
		unknown := submit("nosuchsession", secret, n.token())
		foreign := submit(sid, "another-secret", n.token())
		expectSubmit(t, unknown, http.StatusBadRequest, "M_INVALID_PARAM")
		expectSubmit(t, foreign, http.StatusBadRequest, "M_INVALID_PARAM")
		if unknown.body != foreign.body {
			t.Errorf("distinguishable: %s, %s", unknown.body, foreign.body)
		}
		expectSubmit(t, submit(strings.ToUpper(sid), secret, n.token()), http.StatusBadRequest, "M_INVALID_PARAM")
		expectSubmit(t, submit("with space", "with space", n.token()), http.StatusBadRequest, "M_INVALID_PARAM")
		expectSubmit(t, submit(sid, secret, n.token()), http.StatusOK, "")
	})
}

func testSubmitTokenPastItsLifetime(t *testing.T, open opener) {
	bothWays(t, open, func(t *testing.T, n *node, submit submitFunc) {
		sid := n.mustRequest(addPath, attempt(1)).text("sid")
		n.clock.advance(10 * time.Minute)
		expectSubmit(t, submit(sid, secret, n.token()), http.StatusBadRequest, "M_SESSION_EXPIRED")
	})
}

func testSubmitTokenLivesUntilItsLifetime(t *testing.T, open opener) {
	bothWays(t, open, func(t *testing.T, n *node, submit submitFunc) {
		sid := n.mustRequest(addPath, attempt(1)).text("sid")
		n.clock.advance(10*time.Minute - time.Millisecond)
		expectSubmit(t, submit(sid, secret, n.token()), http.StatusOK, "")
	})
}

func testSubmitSessionPastItsLifetime(t *testing.T, open opener) {
	bothWays(t, open, func(t *testing.T, n *node, submit submitFunc) {
		sid := n.mustRequest(addPath, attempt(1)).text("sid")
		expectSubmit(t, submit(sid, secret, n.token()), http.StatusOK, "")
		n.clock.advance(24 * time.Hour)
		expectSubmit(t, submit(sid, secret, n.token()), http.StatusBadRequest, "M_SESSION_EXPIRED")
		// The next request starts again, in a session of its own.
		if again := n.mustRequest(addPath, attempt(1)).text("sid"); again == sid {
			t.Error("the expired session exists again")
		}
		n.expectTexts(t, 2)
	})
}

func testSubmitFiveWrongTriesUseATokenUp(t *testing.T, open opener) {
	bothWays(t, open, func(t *testing.T, n *node, submit submitFunc) {
		sid := n.mustRequest(addPath, attempt(1)).text("sid")
		used := n.token()
		for range 5 {
			expectSubmit(t, submit(sid, secret, wrong(used)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
		}
		expectSubmit(t, submit(sid, secret, used), http.StatusBadRequest, "M_SESSION_EXPIRED")
		// A resend has a new code.
		n.mustRequest(addPath, attempt(2))
		if n.token() == used {
			t.Fatal("the used token was sent again")
		}
		expectSubmit(t, submit(sid, secret, n.token()), http.StatusOK, "")
	})
}

func testSubmitRightTokenAgainAfterWrongOnes(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
	for range 6 {
		n.submit(sid, secret, wrong(n.token()))
	}
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}

// testParallelGuessesGetFiveTries checks that wrong codes are counted one by one, however many are
// submitted at once.
func testParallelGuessesGetFiveTries(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	guess := wrong(n.token())
	codes := make([]string, 100)
	together(len(codes), func(i int) { codes[i] = n.submit(sid, secret, guess).errcode() })
	count := map[string]int{}
	for _, code := range codes {
		count[code]++
	}
	if count["M_TOKEN_INCORRECT"] != 5 || count["M_SESSION_EXPIRED"] != 95 {
		t.Errorf("responses %v, want 5 compared and 95 refused", count)
	}
}

func testSubmitMissingParameters(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	all := map[string]string{"sid": sid, "client_secret": secret, "token": n.token()}
	for absent := range all {
		form := url.Values{}
		var fields []string
		for name, value := range all {
			if name != absent {
				form.Set(name, value)
				fields = append(fields, fmt.Sprintf("%q:%q", name, value))
			}
		}
		body := "{" + strings.Join(fields, ",") + "}"
		for _, a := range []answer{
			n.post(subPath, body),
			n.post(subPath, body[:len(body)-1]+`,"`+absent+`":null}`),
			n.post(subPath, body[:len(body)-1]+`,"`+absent+`":""}`),
			n.do(http.MethodPost, subPath, "application/x-www-form-urlencoded", form.Encode()),
		} {
			expectSubmit(t, a, http.StatusBadRequest, "M_MISSING_PARAM")
			if !strings.Contains(a.text("error"), absent) {
				t.Errorf("error %q does not name %s", a.text("error"), absent)
			}
		}
		expectPage(t, n.do(http.MethodGet, subPath+"?"+form.Encode(), "", ""), http.StatusBadRequest)
	}
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}

func testSubmitRefusesBadBodies(t *testing.T, open opener) {
	n := start(t, open(t))
	for _, row := range []struct{ name, kind, body, errcode string }{
		{"not JSON", "application/json", "sid=1", "M_NOT_JSON"},
		{"no object", "application/json", "[]", "M_BAD_JSON"},
		{"a number for a string", "application/json", `{"sid":"a","client_secret":"b","token":123456}`, "M_INVALID_PARAM"},
		{"sid a number", "application/json", `{"sid":1,"client_secret":"b","token":"123456"}`, "M_INVALID_PARAM"},
		{"client_secret an object", "application/json", `{"sid":"a","client_secret":{},"token":"123456"}`, "M_INVALID_PARAM"},
		{"trailing data", "application/json", `{"sid":"a","client_secret":"b","token":"123456"} {}`, "M_NOT_JSON"},
		{"a parameter twice in a form", "application/x-www-form-urlencoded", "sid=a&sid=b&client_secret=a&token=1", "M_INVALID_PARAM"},
		{"a broken form", "application/x-www-form-urlencoded", "sid=%zz&client_secret=a&token=1", "M_INVALID_PARAM"},
		{"a multipart form", "multipart/form-data; boundary=x", "--x--", "M_NOT_JSON"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			expectSubmit(t, n.do(http.MethodPost, subPath, row.kind, row.body), http.StatusBadRequest, row.errcode)
		})
	}
}

func testSubmitForm(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	form := url.Values{"sid": {sid}, "client_secret": {secret}, "token": {n.token()}}
	expectSubmit(t, n.do(http.MethodPost, subPath, "application/x-www-form-urlencoded; charset=utf-8", form.Encode()), http.StatusOK, "")
}

// testSubmitAsCurlSendsIt sends JSON with the Content-Type of a form, as "curl -d" does.
func testSubmitAsCurlSendsIt(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	body := fmt.Sprintf(` {"sid":%q,"client_secret":%q,"token":%q}`, sid, secret, n.token())
	expectSubmit(t, n.do(http.MethodPost, subPath, "application/x-www-form-urlencoded", body), http.StatusOK, "")
}

func testSubmitTakesATokenAsPeopleTypeIt(t *testing.T, open opener) {
	spell := map[string]func(string) string{
		"trimmed":          func(s string) string { return " \t" + s + "\r\n" },
		"spaces within":    func(s string) string { return s[:3] + " " + s[3:] },
		"hyphens within":   func(s string) string { return s[:2] + "-" + s[2:4] + "‑" + s[4:] },
		"no-break space":   func(s string) string { return s[:3] + "\u00a0" + s[3:] },
		"bidi marks":       func(s string) string { return "\u2068" + s + "\u2069" },
		"Arabic digits":    func(s string) string { return mapDigits(s, '٠') },
		"Hindi digits":     func(s string) string { return mapDigits(s, '०') },
		"full-width":       func(s string) string { return mapDigits(s, '０') },
		"mathematical":     func(s string) string { return mapDigits(s, '𝟘') },
		"as it was texted": func(s string) string { return s },
	}
	for name, f := range spell {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t))
			sid := n.mustRequest(addPath, attempt(1)).text("sid")
			expectSubmit(t, n.submit(sid, secret, f(n.token())), http.StatusOK, "")
		})
	}
}

func mapDigits(s string, zero rune) string {
	return strings.Map(func(r rune) rune { return r - '0' + zero }, s)
}

// testSubmitBoundsATokenBeforeReadingIt checks that a code of a wrong length counts as a wrong one,
// also if it contains the right one: to read 64 KB of it would take milliseconds that are not
// counted in a validated session.
func testSubmitBoundsATokenBeforeReadingIt(t *testing.T, open opener) {
	n := start(t, open(t))
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	padded := func(bytes int) string { return strings.Repeat(" ", bytes-len(n.token())) + n.token() }
	expectSubmit(t, n.submit(sid, secret, padded(256)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
	expectSubmit(t, n.submit(sid, secret, padded(255)), http.StatusOK, "")
	expectSubmit(t, n.submit(sid, secret, padded(256)), http.StatusBadRequest, "M_TOKEN_INCORRECT")
}

func testNextLink(t *testing.T, open opener) {
	n := start(t, open(t))
	const link = "https://app.example.org/done?a=1&b=ü#x"
	sid := n.mustRequest(addPath, request(map[string]any{"next_link": link})).text("sid")
	token := n.token()
	expectPage(t, n.submitGet(sid, secret, wrong(token)), http.StatusBadRequest)

	query := url.Values{"sid": {sid}, "client_secret": {secret}, "token": {token}, "next_link": {"https://evil.example/"}}
	for range 2 { // the link may be opened again
		a := n.do(http.MethodGet, subPath+"?"+query.Encode(), "", "")
		if a.status != http.StatusFound || a.header.Get("Location") != "https://app.example.org/done?a=1&b=%c3%bc#x" {
			t.Errorf("%d to %q", a.status, a.header.Get("Location"))
		}
		if a.header.Get("Referrer-Policy") != "no-referrer" {
			t.Error("the redirect hands the token on as a referrer")
		}
	}
	// The response to POST is JSON, with or without a next_link.
	expectSubmit(t, n.submit(sid, secret, token), http.StatusOK, "")
}

func testTokenDigits(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) { o.TokenDigits = 9 })
	sid := n.mustRequest(addPath, attempt(1)).text("sid")
	if len(n.token()) != 9 {
		t.Errorf("token of %d digits", len(n.token()))
	}
	expectSubmit(t, n.submit(sid, secret, n.token()), http.StatusOK, "")
}
