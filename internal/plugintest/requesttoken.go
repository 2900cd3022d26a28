package plugintest

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"example.com/threepid"
	"example.com/threepid/store"
)

// requestTokenTests are about the fields of requestToken's requests and responses.
func requestTokenTests() []test {
	return []test{
		{"RequestTokenRefusesBadInput", testRequestTokenRefusesBadInput},
		{"RequestTokenAccepts", testRequestTokenAccepts},
		{"RequestTokenAnswer", testRequestTokenAnswer},
		{"SubmitURLFollowsTheRequestWithoutPublicURL", testSubmitURLFollowsTheRequestWithoutPublicURL},
		{"SidsAreUnguessable", testSidsAreUnguessable},
		{"Association", testAssociation},
		{"AssociationComesBeforeAnAttemptSeen", testAssociationComesBeforeAnAttemptSeen},
		{"OptionsThatRefuse", testOptionsThatRefuse},
	}
}

// badRequest is a body of requestToken that breaks a rule. The error contains names.
type badRequest struct{ name, body, errcode, names string }

// badRequests has a row for each rule of the request.
func badRequests() []badRequest {
	field := func(name string, value any) string { return request(map[string]any{name: value}) }
	raw := func(name, value string) string {
		return strings.Replace(field(name, "@@"), `"@@"`, value, 1)
	}
	idServer := func(server, token string) string {
		return strings.Replace(request(nil), "{", `{"id_server":`+server+`,"id_access_token":`+token+`,`, 1)
	}
	return []badRequest{
		{"client_secret absent", field("client_secret", nil), "M_MISSING_PARAM", "client_secret"},
		{"client_secret null", raw("client_secret", "null"), "M_MISSING_PARAM", "client_secret"},
		{"client_secret empty", field("client_secret", ""), "M_INVALID_PARAM", "client_secret"},
		{"client_secret of 256", field("client_secret", strings.Repeat("a", 256)), "M_INVALID_PARAM", "client_secret"},
		{"client_secret with a space", field("client_secret", "a b"), "M_INVALID_PARAM", "client_secret"},
		{"client_secret with a newline at its end", field("client_secret", "abc\n"), "M_INVALID_PARAM", "client_secret"},
		{"client_secret of other letters", field("client_secret", "ä"), "M_INVALID_PARAM", "client_secret"},
		{"client_secret a number", raw("client_secret", "1"), "M_INVALID_PARAM", "client_secret"},
		{"client_secret in another case", strings.Replace(request(nil), "client_secret", "Client_Secret", 1), "M_MISSING_PARAM", "client_secret"},

		{"country absent", field("country", nil), "M_MISSING_PARAM", "country"},
		{"country null", raw("country", "null"), "M_MISSING_PARAM", "country"},
		{"country lower case", field("country", "gb"), "M_INVALID_PARAM", "country"},
		{"country unknown", field("country", "ZZ"), "M_INVALID_PARAM", "country"},
		{"country of three letters", field("country", "GBR"), "M_INVALID_PARAM", "country"},
		{"country a non-geographic code", field("country", "001"), "M_INVALID_PARAM", "country"},
		{"country empty, number national", field("country", ""), "M_INVALID_PARAM", "phone_number"},
		{"country an array", raw("country", `["GB"]`), "M_INVALID_PARAM", "country"},

		{"phone_number absent", field("phone_number", nil), "M_MISSING_PARAM", "phone_number"},
		{"phone_number null", raw("phone_number", "null"), "M_MISSING_PARAM", "phone_number"},
		{"phone_number a number", raw("phone_number", "7700900001"), "M_INVALID_PARAM", "phone_number"},
		{"phone_number empty", field("phone_number", ""), "M_INVALID_PARAM", "phone_number"},
		{"phone_number too short", field("phone_number", "12"), "M_INVALID_PARAM", "phone_number"},
		{"phone_number too long a number", field("phone_number", "+4477009000011234567"), "M_INVALID_PARAM", "phone_number"},
		{"phone_number of 65 characters", field("phone_number", "07700900001"+strings.Repeat(" ", 54)), "M_INVALID_PARAM", "phone_number"},
		{"phone_number with letters", field("phone_number", "0800FLOWERS"), "M_INVALID_PARAM", "phone_number"},
		{"phone_number with a control character", field("phone_number", "07700\x00900001"), "M_INVALID_PARAM", "control characters"},
		{"phone_number a URI", field("phone_number", "tel:+447700900001"), "M_INVALID_PARAM", "phone_number"},
		{"phone_number with an extension", field("phone_number", "07700900001#12"), "M_INVALID_PARAM", "phone_number"},
		{"phone_number with an extension as of RFC 3966", field("phone_number", "+447700900001;ext=12"), "M_INVALID_PARAM", "phone_number"},
		{"phone_number without its area", request(map[string]any{"country": "US", "phone_number": "253-0000"}), "M_INVALID_PARAM", "phone_number"},
		{"phone_number a secret code", field("phone_number", "*#06#"), "M_INVALID_PARAM", "phone_number"},

		{"send_attempt absent", field("send_attempt", nil), "M_MISSING_PARAM", "send_attempt"},
		{"send_attempt null", raw("send_attempt", "null"), "M_MISSING_PARAM", "send_attempt"},
		{"send_attempt a string", field("send_attempt", "1"), "M_INVALID_PARAM", "send_attempt"},
		{"send_attempt 1.0", raw("send_attempt", "1.0"), "M_INVALID_PARAM", "send_attempt"},
		{"send_attempt 1e0", raw("send_attempt", "1e0"), "M_INVALID_PARAM", "send_attempt"},
		{"send_attempt negative", raw("send_attempt", "-1"), "M_INVALID_PARAM", "send_attempt"},
		{"send_attempt minus zero", raw("send_attempt", "-0"), "M_INVALID_PARAM", "send_attempt"},
		{"send_attempt true", raw("send_attempt", "true"), "M_INVALID_PARAM", "send_attempt"},
		{"send_attempt over 2^53-1", raw("send_attempt", "9007199254740992"), "M_INVALID_PARAM", "send_attempt"},
		{"send_attempt over 64 bits", raw("send_attempt", "18446744073709551617"), "M_INVALID_PARAM", "send_attempt"},

		{"next_link empty", field("next_link", ""), "M_INVALID_PARAM", "next_link"},
		{"next_link relative", field("next_link", "/done"), "M_INVALID_PARAM", "next_link"},
		{"next_link without a host", field("next_link", "https:///done"), "M_INVALID_PARAM", "next_link"},
		{"next_link a script", field("next_link", "javascript:alert(1)"), "M_INVALID_PARAM", "next_link"},
		{"next_link of another scheme", field("next_link", "ftp://example.org/"), "M_INVALID_PARAM", "next_link"},
		{"next_link with a user", field("next_link", "https://me@example.org/"), "M_INVALID_PARAM", "next_link"},
		{"next_link with a backslash", field("next_link", `https://example.org\@evil.example/`), "M_INVALID_PARAM", "next_link"},
		{"next_link with a newline", field("next_link", "https://example.org/\r\nX: y"), "M_INVALID_PARAM", "next_link"},
		{"next_link with a fullwidth dot", field("next_link", "https://example．org/"), "M_INVALID_PARAM", "next_link"},
		{"next_link to no host name", field("next_link", "https://<script>/"), "M_INVALID_PARAM", "next_link"},
		{"next_link to a port too great", field("next_link", "https://example.org:99999/"), "M_INVALID_PARAM", "next_link"},
		{"next_link to port 0", field("next_link", "https://example.org:0/"), "M_INVALID_PARAM", "next_link"},
		{"next_link to an address with a zone", field("next_link", "https://[::1%25eth0]/"), "M_INVALID_PARAM", "next_link"},
		{"next_link of 2,049 bytes", field("next_link", "https://example.org/"+strings.Repeat("a", 2029)), "M_INVALID_PARAM", "next_link"},
		{"next_link a number", raw("next_link", "1"), "M_INVALID_PARAM", "next_link"},

		{"id_server a number", idServer("1", `"t"`), "M_INVALID_PARAM", "id_server"},
		{"id_access_token a number", idServer(`"id.example.org"`, "1"), "M_INVALID_PARAM", "id_access_token"},
		{"id_access_token absent", field("id_server", "id.example.org"), "M_MISSING_PARAM", "id_access_token"},
		{"id_access_token null", idServer(`"id.example.org"`, "null"), "M_MISSING_PARAM", "id_access_token"},
		{"id_access_token empty", idServer(`"id.example.org"`, `""`), "M_MISSING_PARAM", "id_access_token"},

		{"body empty", "", "M_NOT_JSON", ""},
		{"body a form", "client_secret=abc&country=GB", "M_NOT_JSON", ""},
		{"body cut short", request(nil)[:20], "M_NOT_JSON", ""},
		{"body with trailing data", request(nil) + "{}", "M_NOT_JSON", ""},
		{"body not UTF-8", strings.Replace(request(nil), "GB", "G\xff", 1), "M_NOT_JSON", ""},
		{"body nested without end", strings.Repeat("[", 30000), "M_NOT_JSON", ""},
		{"body null", "null", "M_BAD_JSON", ""},
		{"body an array", "[" + request(nil) + "]", "M_BAD_JSON", ""},
		{"body a string", `"{}"`, "M_BAD_JSON", ""},
		{"field twice", `{"country":"GB",` + request(nil)[1:], "M_BAD_JSON", ""},
		{"field twice, once escaped", `{"countr\u0079":"GB",` + request(nil)[1:], "M_BAD_JSON", ""},
	}
}

// testRequestTokenRefusesBadInput sends each bad request. None may send or store anything.
func testRequestTokenRefusesBadInput(t *testing.T, open opener) {
	// One after the other: if a row is not refused and stores something, that row is the first to
	// fail.
	n := start(t, open(t))
	for _, row := range badRequests() {
		t.Run(row.name, func(t *testing.T) {
			for _, path := range []string{addPath, regPath, pwdPath} {
				a := n.post(path, row.body)
				expect(t, a, http.StatusBadRequest, row.errcode)
				if !strings.Contains(a.text("error"), row.names) {
					t.Errorf("error %q does not name %q", a.text("error"), row.names)
				}
			}
			if calls := n.sms.Calls(); len(calls) > 0 {
				t.Fatalf("an SMS was sent: %v", calls)
			}
			if _, err := n.sessionOf(t); !errors.Is(err, store.ErrNotFound) {
				t.Fatalf("a session was stored: %v", err)
			}
		})
	}
}

// testRequestTokenAccepts has a row for each unusual request that is valid.
func testRequestTokenAccepts(t *testing.T, open opener) {
	rows := []struct {
		name   string
		fields map[string]any
		msisdn string
	}{
		{"the specification's example", nil, msisdn},
		{"client_secret of 255", map[string]any{"client_secret": strings.Repeat("a", 255)}, msisdn},
		{"client_secret of every character", map[string]any{"client_secret": "azAZ09.=_-"}, msisdn},
		{"send_attempt 0", map[string]any{"send_attempt": 0}, msisdn},
		{"send_attempt 2^53-1", map[string]any{"send_attempt": int64(9007199254740991)}, msisdn},
		{"country empty, number international", map[string]any{"country": "", "phone_number": "+447700900001"}, msisdn},
		{"country of another plan", map[string]any{"country": "US", "phone_number": "+44 7700 900001"}, msisdn},
		{"spaces and brackets", map[string]any{"phone_number": "(07700) 900-001"}, msisdn},
		{"trunk zero in brackets", map[string]any{"phone_number": "+44 (0)7700 900001"}, msisdn},
		{"other script's digits", map[string]any{"phone_number": "٠٧٧٠٠٩٠٠٠٠١"}, msisdn},
		{"copied from a contact list", map[string]any{"phone_number": "\u202a+44 7700 900001\u202c"}, msisdn},
		{"a tab before it", map[string]any{"phone_number": "\t07700\u00a0900001"}, msisdn},
		{"64 characters", map[string]any{"phone_number": "07700900001" + strings.Repeat(" ", 53)}, msisdn},
		{"dialled abroad with 00", map[string]any{"phone_number": "0033612345678"}, "33612345678"},
		{"leading zero that belongs to the number", map[string]any{"country": "IT", "phone_number": "06 1234 5678"}, "390612345678"},
		{"next_link", map[string]any{"next_link": "https://example.org:8443/done?a=b#c"}, msisdn},
		{"next_link to an address", map[string]any{"next_link": "http://[2001:db8::1]:8080/"}, msisdn},
		{"next_link null", map[string]any{"next_link": rawNull{}}, msisdn},
		{"unknown fields", map[string]any{"bind": true, "Country": 7}, msisdn},
		{"id_server null", map[string]any{"id_server": rawNull{}}, msisdn},
		{"id_server null, its token null", map[string]any{"id_server": rawNull{}, "id_access_token": rawNull{}}, msisdn},
		{"id_server with its token", map[string]any{"id_server": "id.example.org", "id_access_token": "abc"}, msisdn},
		{"id_access_token alone", map[string]any{"id_access_token": "abc"}, msisdn},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t))
			a := n.mustRequest(addPath, request(row.fields))
			if a.text("msisdn") != row.msisdn {
				t.Errorf("msisdn %q, want %q", a.text("msisdn"), row.msisdn)
			}
			m, _ := n.sms.Last()
			if m.To != "+"+row.msisdn {
				t.Errorf("the SMS was sent to %s", m.To)
			}
			n.expectTexts(t, 1)
		})
	}
}

type rawNull struct{}

func (rawNull) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// testRequestTokenAnswer checks every field of the response and of the message.
func testRequestTokenAnswer(t *testing.T, open opener) {
	n := start(t, open(t), func(o *threepid.Options) {
		o.PublicURL, o.Messages.Brand = "https://example.org/", "Example"
	})
	a := n.do(http.MethodPost, addPath, "", request(nil)) // no Content-Type is required
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if !regexp.MustCompile(`^[0-9a-zA-Z.=_-]{27,255}$`).MatchString(a.text("sid")) {
		t.Errorf("sid %q", a.text("sid"))
	}
	want := map[string]any{
		"sid": a.text("sid"), "success": true, "msisdn": msisdn, "intl_fmt": "+44 7700 900001",
		"submit_url": "https://example.org/_api/client/v3/account/3pid/msisdn/submitToken",
	}
	for name, value := range want {
		if a.fields[name] != value {
			t.Errorf("%s is %v, want %v", name, a.fields[name], value)
		}
	}
	if len(a.fields) != len(want) {
		t.Errorf("the response has other fields: %s", a.body)
	}
	m, _ := n.sms.Last()
	if !regexp.MustCompile(`^[0-9]{6} is your Example code\.$`).MatchString(m.Text) || m.To != "+"+msisdn ||
		m.Attempt != 1 || m.Country != "GB" || m.ID == "" || len(m.ID) > 64 {
		t.Errorf("message %+v", m)
	}
}

func testSubmitURLFollowsTheRequestWithoutPublicURL(t *testing.T, open opener) {
	n := start(t, open(t))
	if got, want := n.mustRequest(addPath, request(nil)).text("submit_url"), n.url+subPath; got != want {
		t.Errorf("submit_url %q, want %q", got, want)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+addPath, strings.NewReader(request(nil)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{
		"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Prefix": {"/evil"},
		"Forwarded": {"host=evil.example;proto=https"}, "X-Original-Host": {"evil.example"},
	}
	if got, want := n.send(req).text("submit_url"), n.url+subPath; got != want {
		t.Errorf("submit_url %q, want %q", got, want)
	}
	for _, host := range []string{`evil.example/x?`, `evil.example"><script>`, "user@evil.example", "evil.example#", "..", "a,b", "evil.example:", "evil.example:99999"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+addPath, strings.NewReader(attempt(2)))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if res, err := n.client.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode != http.StatusBadRequest {
				t.Errorf("Host %q: %d", host, res.StatusCode)
			}
		}
	}
	n.expectTexts(t, 1)
}

func testSidsAreUnguessable(t *testing.T, open opener) {
	n := start(t, open(t))
	one := n.mustRequest(addPath, request(map[string]any{"client_secret": "one"})).text("sid")
	two := n.mustRequest(addPath, request(map[string]any{"client_secret": "two"})).text("sid")
	// At the same time the prefix, which is ordered by time, is the same; the rest must differ.
	if one == two || one[:8] != two[:8] || one[len(one)-26:] == two[len(two)-26:] {
		t.Errorf("sids %s and %s", one, two)
	}
}

func testAssociation(t *testing.T, open opener) {
	st := open(t)
	n := start(t, st)
	a := n.post(pwdPath, attempt(1))
	expect(t, a, http.StatusBadRequest, "M_THREEPID_NOT_FOUND")
	n.associate(t, "@alice:example.org", msisdn)
	for _, path := range []string{addPath, regPath} {
		a := n.post(path, attempt(1))
		expect(t, a, http.StatusBadRequest, "M_THREEPID_IN_USE")
		if a.text("error") != "MSISDN is already in use" {
			t.Errorf("error %q", a.text("error"))
		}
	}
	n.expectTexts(t, 0)
	if _, err := n.sessionOf(t); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a session was stored: %v", err)
	}
	n.mustRequest(pwdPath, attempt(1))
	n.expectTexts(t, 1)
	if err := st.Dissociate(t.Context(), "@alice:example.org", msisdn); err != nil {
		t.Fatal(err)
	}
	n.mustRequest(addPath, attempt(2))
	n.expectTexts(t, 2)
}

// testAssociationComesBeforeAnAttemptSeen checks the order of the refusals.
func testAssociationComesBeforeAnAttemptSeen(t *testing.T, open opener) {
	n := start(t, open(t))
	n.mustRequest(addPath, attempt(1))
	n.associate(t, "@alice:example.org", msisdn)
	expect(t, n.post(addPath, attempt(1)), http.StatusBadRequest, "M_THREEPID_IN_USE")
}

func testOptionsThatRefuse(t *testing.T, open opener) {
	t.Run("RequireValidNumbers", func(t *testing.T) {
		t.Parallel()
		n := start(t, open(t), func(o *threepid.Options) { o.Policy.RequireValidNumbers = true })
		expect(t, n.post(addPath, attempt(1)), http.StatusBadRequest, "M_INVALID_PARAM")
		n.mustRequest(addPath, request(map[string]any{"phone_number": "07400123456"}))
	})
	t.Run("NextLinkHosts", func(t *testing.T) {
		t.Parallel()
		n := start(t, open(t), func(o *threepid.Options) { o.NextLinkHosts = []string{"App.example.org"} })
		link := func(s string) string { return request(map[string]any{"next_link": s}) }
		expect(t, n.post(addPath, link("https://evil.example/")), http.StatusBadRequest, "M_INVALID_PARAM")
		expect(t, n.post(addPath, link("https://app.example.org.evil.example/")), http.StatusBadRequest, "M_INVALID_PARAM")
		n.mustRequest(addPath, link("https://APP.example.org:8443/x"))
	})
	t.Run("AllowLegacyClients", func(t *testing.T) {
		t.Parallel()
		n := start(t, open(t), func(o *threepid.Options) { o.AllowLegacyClients = true })
		n.mustRequest(addPath, request(map[string]any{"id_server": "id.example.org"}))
	})
}
