package plugintest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/threepid"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/storetest"
)

// textTests are about the texts that people read, and their language.
func textTests() []test {
	return []test{
		{"TextsInTheReadersLanguage", testTextsInTheReadersLanguage},
		{"TextsOfTheHost", testTextsOfTheHost},
		{"TextsEnd", testTextsEnd},
		{"MessageForTemplates", testMessageForTemplates},
		{"TextOfARetry", testTextOfARetry},
		{"WildLanguagesAreHarmless", testWildLanguagesAreHarmless},
		{"PageInTheReadersLanguage", testPageInTheReadersLanguage},
		{"PageSaysHowLongToWait", testPageSaysHowLongToWait},
		{"PageOfAFailure", testPageOfAFailure},
	}
}

// speaking sends a request with an Accept-Language.
func (n *node) speaking(language, method, path, body string) answer {
	n.tb.Helper()
	req, err := http.NewRequestWithContext(n.tb.Context(), method, n.url+path, strings.NewReader(body))
	if err != nil {
		n.tb.Fatal(err)
	}
	req.Header.Set("Accept-Language", language)
	return n.send(req)
}

// textIn returns the text for a request in a language, with 123456 as its code.
func (n *node) textIn(t *testing.T, language, path string) string {
	t.Helper()
	a := n.speaking(language, http.MethodPost, path, request(map[string]any{"client_secret": newSecret()}))
	m, ok := n.sms.Last()
	if a.status != http.StatusOK || !ok {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if token := smstest.Token(m); token != "" {
		return strings.ReplaceAll(m.Text, token, "123456")
	}
	return m.Text
}

func testTextsInTheReadersLanguage(t *testing.T, open opener) {
	free, taken := start(t, open(t), concealed), start(t, open(t), concealed)
	taken.associate(t, "@alice:example.org", msisdn)
	for _, row := range []struct {
		n              *node
		path, language string
		want           string
	}{
		{free, addPath, "", "123456 is your Example code."},
		{free, addPath, "de-CH,de;q=0.9,en;q=0.5", "123456 ist dein Code für Example."},
		{free, addPath, "ko", "123456 is your Example code."},
		{free, regPath, "pt-BR", "123456 é o seu código Example."},
		{taken, pwdPath, "en-US", "123456 is your Example code to reset your password. Do not share it."},
		{taken, pwdPath, "fr", "123456 est votre code Example pour réinitialiser votre mot de passe. Ne communiquez ce code à personne."},
		{taken, pwdPath, "ar-EG", "123456 رمز Example لإعادة تعيين كلمة المرور. لا تشاركه."},
		{taken, addPath, "uk", "Номер уже в акаунті Example. Відв’яжіть його. Не ви? Ігноруйте."},
		{taken, regPath, "zh-CN", "此号码已注册 Example 账号，请直接登录或重置密码。如非本人操作，请忽略。"},
		{free, pwdPath, "pl", "Example: Nie ma konta z tym numerem telefonu, dlatego niczego nie zmieniono. To nie Ty? Zignoruj ten SMS."},
	} {
		if got := row.n.textIn(t, row.language, row.path); got != row.want {
			t.Errorf("%s in %q: %q, want %q", row.path, row.language, got, row.want)
		}
	}
}

func testTextsOfTheHost(t *testing.T, open opener) {
	given := map[string]threepid.Templates{
		"de": {Password: "{{.Token}}: neues Passwort, {{.Minutes}} Min. gültig. {{.Brand}}", Unknown: "Kein Konto bei {{.Brand}}."},
		"sv": {Add: "{{.Token}} är din kod."},
	}
	n := start(t, open(t), concealed, func(o *threepid.Options) {
		o.Messages.Language, o.Messages.Templates, o.TokenLifetime = "de", given, 15*time.Minute
	})
	given["sv"] = threepid.Templates{Add: "changed by the host later: {{.Token}}"}
	for _, row := range [][3]string{
		{"sv-SE", addPath, "123456 är din kod."},
		{"sv-SE", regPath, "123456 ist dein Code für Example."}, // the host's language
		{"ko", addPath, "123456 ist dein Code für Example."},
		{"en", addPath, "123456 is your Example code."},
		{"", pwdPath, "Kein Konto bei Example."},
	} {
		if got := n.textIn(t, row[0], row[1]); got != row[2] {
			t.Errorf("%q %s: %q, want %q", row[0], row[1], got, row[2])
		}
	}
	n.associate(t, "@alice:example.org", msisdn)
	if got, want := n.textIn(t, "", pwdPath), "123456: neues Passwort, 15 Min. gültig. Example"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// testTextsEnd checks that texts end with what browsers and Android read, except those of decoys,
// which have no code.
func testTextsEnd(t *testing.T, open opener) {
	n := start(t, open(t), concealed, func(o *threepid.Options) {
		o.Messages.WebOTPDomain, o.Messages.AndroidAppHash = "example.com", "FA+9qCX9VSu"
	})
	if got, want := n.textIn(t, "", addPath), "123456 is your Example code.\nFA+9qCX9VSu\n@example.com #123456"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := n.textIn(t, "", pwdPath); strings.Contains(got, "@") || strings.Contains(got, "FA+") {
		t.Errorf("%q", got)
	}
}

// testMessageForTemplates checks that a message has what a provider with its own templates needs. A
// message without a code has an empty Code.
func testMessageForTemplates(t *testing.T, open opener) {
	n := start(t, open(t), concealed)
	n.speaking("de", http.MethodPost, addPath, attempt(1))
	m, _ := n.sms.Last()
	if m.Code == "" || m.Code != smstest.Token(m) || m.Purpose != "add" || m.Language != "de" || m.Brand != "Example" {
		t.Errorf("%+v", m)
	}
	n.speaking("de", http.MethodPost, pwdPath, request(map[string]any{"client_secret": "another"}))
	if m, _ := n.sms.Last(); m.Code != "" || m.Purpose != "password" || m.Language != "de" || m.Text == "" {
		t.Errorf("the SMS has no code: %+v", m)
	}
}

// testTextOfARetry checks that the same request gets the same text with the same ID, and one in
// another language the same code and ID.
func testTextOfARetry(t *testing.T, open opener) {
	n := start(t, open(t))
	lost := fmt.Errorf("connection lost: %w", sms.ErrUncertain)
	n.sms.Fail(lost, lost)
	for _, language := range []string{"it", "it", "nl"} {
		n.speaking(language, http.MethodPost, addPath, attempt(1))
	}
	calls := n.sms.Calls()
	if len(calls) != 3 || calls[0].Text != calls[1].Text || calls[1].Text == calls[2].Text {
		t.Fatalf("%+v", calls)
	}
	if calls[0].ID != calls[2].ID || smstest.Token(calls[0]) != smstest.Token(calls[2]) {
		t.Errorf("%+v", calls)
	}
}

// testWildLanguagesAreHarmless sends headers that no browser sends.
func testWildLanguagesAreHarmless(t *testing.T, open opener) {
	n := start(t, open(t))
	for _, language := range []string{
		strings.Repeat("de-", 100_000), strings.Repeat("-", 300_000), strings.Repeat("x", 300), "de;q=many", "\"><script>", "../de", "und", "*",
	} {
		if got, want := n.textIn(t, language, addPath), "123456 is your verification code."; got != want {
			t.Errorf("%.20q: %q", language, got)
		}
		if a := n.speaking(language, http.MethodGet, subPath, ""); !strings.Contains(a.body, `<html lang="en" dir="ltr">`) {
			t.Errorf("%.20q: %s", language, a.body)
		}
	}
}

// expectSays fails the test unless the response is a page in that language, which contains a
// sentence and nothing in English.
func expectSays(t *testing.T, a answer, status int, language, says string) {
	t.Helper()
	expectPage(t, a, status)
	direction := "ltr"
	if language == "ar" {
		direction = "rtl"
	}
	if !strings.Contains(a.body, fmt.Sprintf(`<html lang=%q dir=%q>`, language, direction)) || !strings.Contains(a.body, "<p>"+says+"</p>") {
		t.Errorf("in %s: %s, want %q", language, a.body, says)
	}
	if a.header.Get("Content-Language") != language || !strings.Contains(strings.Join(a.header.Values("Vary"), ","), "Accept-Language") {
		t.Errorf("in %s: headers %v", language, a.header)
	}
}

func testPageInTheReadersLanguage(t *testing.T, open opener) {
	for language, says := range map[string]struct{ confirmed, wrong, last, expired, invalid, missing string }{
		"de": {
			"Deine Telefonnummer ist bestätigt. Du kannst diese Seite schließen und dort weitermachen, wo du aufgehört hast.",
			"Dieser Code stimmt nicht. Sieh in der SMS nach. Verbleibende Versuche: 4.",
			"Dieser Code stimmt nicht, und das war der letzte Versuch. Fordere einen neuen Code an.",
			"Dieser Code ist nicht mehr gültig. Fordere einen neuen an.",
			"Dieser Link ist ungültig. Fordere einen neuen Code an.",
			"Dieser Link ist unvollständig. Öffne den ganzen Link oder fordere einen neuen Code an.",
		},
		"ar": {
			"تم تأكيد رقم هاتفك. يمكنك إغلاق هذه الصفحة والعودة إلى حيث كنت.",
			"الرمز غير صحيح. تحقق من الرسالة النصية. المحاولات المتبقية: 4.",
			"الرمز غير صحيح، وكانت هذه المحاولة الأخيرة. اطلب رمزًا جديدًا.",
			"لم يعد هذا الرمز صالحًا. اطلب رمزًا جديدًا.",
			"هذا الرابط غير صالح. اطلب رمزًا جديدًا.",
			"هذا الرابط غير مكتمل. افتحه كاملًا أو اطلب رمزًا جديدًا.",
		},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			n := start(t, open(t), func(o *threepid.Options) { o.Messages.Language = "fr" })
			open := func(sid, token string) answer {
				query := url.Values{"sid": {sid}, "client_secret": {secret}, "token": {token}}
				return n.speaking(language, http.MethodGet, subPath+"?"+query.Encode(), "")
			}
			sid := n.mustRequest(addPath, attempt(1)).text("sid")
			expectSays(t, open("unknown", "123456"), http.StatusBadRequest, language, says.invalid)
			expectSays(t, open(sid, ""), http.StatusBadRequest, language, says.missing)
			expectSays(t, open(sid, wrong(n.token())), http.StatusBadRequest, language, says.wrong)
			for range 3 {
				open(sid, wrong(n.token()))
			}
			expectSays(t, open(sid, wrong(n.token())), http.StatusBadRequest, language, says.last)
			expectSays(t, open(sid, n.token()), http.StatusBadRequest, language, says.expired)
			n.mustRequest(addPath, attempt(2))
			expectSays(t, open(sid, n.token()), http.StatusOK, language, says.confirmed)

			// JSON is for programs; for a reader of no built-in language it is in the host's.
			if a := n.speaking(language, http.MethodPost, subPath, `{"sid":"unknown"}`); !strings.HasPrefix(a.text("error"), "Missing: ") {
				t.Errorf("%s", a.body)
			}
			expectSays(t, n.speaking("ko", http.MethodGet, subPath, ""), http.StatusBadRequest, "fr",
				"Ce lien est incomplet. Ouvrez le lien complet ou demandez un nouveau code.")
		})
	}
}

func testPageSaysHowLongToWait(t *testing.T, open opener) {
	for per, says := range map[time.Duration]string{
		45 * time.Minute: "Слишком много попыток. Повторите через 45 мин.",
		5 * time.Hour:    "Слишком много попыток. Повторите через 5 ч.",
	} {
		n := start(t, open(t), func(o *threepid.Options) {
			o.Limits = limits.Limits{WrongCodesPerNumberAndClient: []limits.Limit{{Burst: 1, Every: per}}}
		})
		sid := n.mustRequest(addPath, attempt(1)).text("sid")
		n.submit(sid, secret, wrong(n.token()))
		query := url.Values{"sid": {sid}, "client_secret": {secret}, "token": {wrong(n.token())}}
		expectSays(t, n.speaking("ru", http.MethodGet, subPath+"?"+query.Encode(), ""), http.StatusTooManyRequests, "ru", says)
	}
}

func testPageOfAFailure(t *testing.T, open opener) {
	inner := open(t)
	failing := storetest.Failing(inner, func(string) error { return errors.New("disk on fire") })
	n := start(t, both{failing, inner})
	query := url.Values{"sid": {"sid"}, "client_secret": {secret}, "token": {"123456"}}
	expectSays(t, n.speaking("ja", http.MethodGet, subPath+"?"+query.Encode(), ""), http.StatusInternalServerError, "ja",
		"サーバーで問題が発生しました。しばらくしてからもう一度お試しください。")
}
