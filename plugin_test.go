package threepid_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/delegate/identityserver"
	"example.com/threepid/internal/plugintest"
	"example.com/threepid/limits"
	"example.com/threepid/sms"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store"
	"example.com/threepid/store/memstore"
	"example.com/threepid/store/sqlite"
)

const (
	addPath = "/_api/client/v3" + string(threepid.EndpointRequestTokenAdd)
	subPath = "/_api/client/v3" + string(threepid.EndpointSubmitToken)

	// The specification's example.
	secret  = "monkeys_are_GREAT"
	spoken  = "07700900001"
	msisdn  = "447700900001"
	request = `{"client_secret":"` + secret + `","country":"GB","phone_number":"` + spoken + `","send_attempt":1}`
)

// testsAtOnce is the number of parallel tests, independent of the number of processors, because
// most tests wait. The flag -parallel overrides it.
const testsAtOnce = "8"

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	if err := flag.Set("test.parallel", testsAtOnce); err != nil {
		panic(err)
	}
	m.Run()
}

func openSQLite(tb testing.TB, dir string) *sqlite.Store {
	tb.Helper()
	st, err := sqlite.Open(filepath.Join(dir, "threepid.db"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := st.Close(); err != nil {
			tb.Error(err)
		}
	})
	return st
}

func slogDiscard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// ExampleRegister shows the whole flow for one number.
func ExampleRegister() {
	texts := smstest.New() // your provider here
	router := gin.New()    // your server
	plugin, err := threepid.Register(router, memstore.New(), texts, threepid.Options{
		PublicURL: "https://example.org",
		Messages:  threepid.Messages{Brand: "Example"},
		Logger:    slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = plugin.Close() }()

	// A client asks for a code…
	post := func(path, body string) map[string]any {
		w := httptest.NewRecorder()
		router.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/_api/client/v3/account/3pid/msisdn/"+path, strings.NewReader(body)))
		var answer map[string]any
		_ = json.Unmarshal(w.Body.Bytes(), &answer)
		return answer
	}
	asked := post("requestToken", `{"client_secret":"s3cret","country":"GB","phone_number":"07700900001","send_attempt":1}`)
	fmt.Println(asked["intl_fmt"], asked["submit_url"])

	// …and submits it.
	text, _ := texts.Last()
	fmt.Println(post("submitToken", fmt.Sprintf(`{"client_secret":"s3cret","sid":%q,"token":%q}`, asked["sid"], smstest.Token(text))))

	// The host redeems the validation in its own /register.
	v, err := plugin.Redeem(context.Background(), asked["sid"].(string), "s3cret")
	fmt.Println(v.MSISDN, v.Purpose, err)
	// Output:
	// +44 7700 900001 https://example.org/_api/client/v3/account/3pid/msisdn/submitToken
	// map[success:true]
	// 447700900001 add <nil>
}

// TestPlugin runs most of the tests: they check what clients, hosts and providers see.
func TestPlugin(t *testing.T) {
	t.Parallel()
	plugintest.Run(t, func(testing.TB) plugintest.Store { return memstore.New() })
}

// TestPluginOnSQLite runs the tests that depend on the store. The module test/db runs them on
// database servers.
func TestPluginOnSQLite(t *testing.T) {
	t.Parallel()
	plugintest.RunStorage(t, func(tb testing.TB) plugintest.Store {
		tb.Helper()
		return openSQLite(tb, tb.TempDir())
	})
}

func TestRedeemTxNeedsGormstore(t *testing.T) {
	t.Parallel()
	plugin, err := threepid.Register(gin.New(), memstore.New(), smstest.New(), threepid.Options{Logger: slogDiscard()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plugin.Close() }()
	if _, err := plugin.RedeemTx(t.Context(), nil, "sid", secret); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("RedeemTx over memstore: %v", err)
	}
}

func TestRegisterRefusesWrongUse(t *testing.T) {
	t.Parallel()
	var noRouter *gin.Engine
	var noStore *memstore.Store
	var noDelegate *identityserver.Service
	someDelegate, err := identityserver.New(identityserver.Options{BaseURL: "https://id.example.org", AccessToken: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name   string
		router gin.IRouter
		store  store.Store
		sender sms.Sender
		opts   threepid.Options
		says   string
	}{
		{"no router", nil, memstore.New(), smstest.New(), threepid.Options{}, "router is nil"},
		{"nil router in an interface", noRouter, memstore.New(), smstest.New(), threepid.Options{}, "router is nil"},
		{"no store", gin.New(), nil, smstest.New(), threepid.Options{}, "store is nil"},
		{"nil store in an interface", gin.New(), noStore, smstest.New(), threepid.Options{}, "store is nil"},
		{"no sender", gin.New(), memstore.New(), nil, threepid.Options{}, "sender is nil"},
		{"nil function", gin.New(), memstore.New(), sms.Func(nil), threepid.Options{}, "sender is nil"},
		{"no sender, and a nil delegate in an interface", gin.New(), memstore.New(), nil, threepid.Options{Delegate: noDelegate}, "sender is nil"},
		{"a delegate and concealment", gin.New(), memstore.New(), nil, threepid.Options{Delegate: someDelegate, ConcealAccounts: true}, "ConcealAccounts"},
		{"no accounts", gin.New(), struct{ store.Store }{memstore.New()}, smstest.New(), threepid.Options{}, "Options.Accounts"},
		{"base path without slash", gin.New(), memstore.New(), smstest.New(), threepid.Options{BasePath: "api"}, "base path"},
		{"base path with one at its end", gin.New(), memstore.New(), smstest.New(), threepid.Options{BasePath: "/api/"}, "base path"},
		{"base path with a wildcard", gin.New(), memstore.New(), smstest.New(), threepid.Options{BasePath: "/:tenant"}, "wildcards"},
		{"public URL without scheme", gin.New(), memstore.New(), smstest.New(), threepid.Options{PublicURL: "example.org"}, "PublicURL"},
		{"public URL with a query", gin.New(), memstore.New(), smstest.New(), threepid.Options{PublicURL: "https://example.org/?a=1"}, "PublicURL"},
		{"public URL with a user", gin.New(), memstore.New(), smstest.New(), threepid.Options{PublicURL: "https://a:b@example.org"}, "PublicURL"},
		{"five digits", gin.New(), memstore.New(), smstest.New(), threepid.Options{TokenDigits: 5}, "TokenDigits"},
		{"ten digits", gin.New(), memstore.New(), smstest.New(), threepid.Options{TokenDigits: 10}, "TokenDigits"},
		{"server key too short", gin.New(), memstore.New(), smstest.New(), threepid.Options{ServerKeys: [][]byte{make([]byte, 32), make([]byte, 31)}}, "ServerKeys[1]"},
		{"negative lifetime", gin.New(), memstore.New(), smstest.New(), threepid.Options{TokenLifetime: -1}, "TokenLifetime"},
		{"session shorter than token", gin.New(), memstore.New(), smstest.New(), threepid.Options{SessionLifetime: time.Minute}, "SessionLifetime"},
		{"send timeout too long", gin.New(), memstore.New(), smstest.New(), threepid.Options{SendTimeout: time.Hour}, "SendTimeout"},
		{"brand of two lines", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{Brand: "a\nb"}}, "Brand"},
		{"language that is none", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{Language: "german"}}, "Options.Messages.Language"},
		{"language without texts", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{Language: "ko"}}, "Options.Messages.Templates"},
		{"texts in no language", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{Templates: map[string]threepid.Templates{"x": {}}}}, `Options.Messages.Templates["x"]`},
		{"text without a token", gin.New(), memstore.New(), smstest.New(), inGerman(threepid.Templates{Password: "Passwort"}), `Options.Messages.Templates["de"].Password`},
		{"notice with a token", gin.New(), memstore.New(), smstest.New(), inGerman(threepid.Templates{Unknown: "{{.Token}}"}), `Options.Messages.Templates["de"].Unknown`},
		{"text of another field", gin.New(), memstore.New(), smstest.New(), inGerman(threepid.Templates{Add: "{{.Token}} {{.Number}}"}), `Options.Messages.Templates["de"].Add`},
		{"WebOTP with a scheme", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{WebOTPDomain: "https://example.com"}}, "WebOTPDomain"},
		{"WebOTP with a port", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{WebOTPDomain: "example.com:443"}}, "WebOTPDomain"},
		{"WebOTP with a space", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{WebOTPDomain: "example.com #1"}}, "WebOTPDomain"},
		{"WebOTP of two lines", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{WebOTPDomain: "example.com\n"}}, "WebOTPDomain"},
		{"WebOTP not in ASCII", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{WebOTPDomain: "exämple.com"}}, "WebOTPDomain"},
		{"WebOTP in upper case", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{WebOTPDomain: "Example.com"}}, "WebOTPDomain"},
		{"WebOTP for an address", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{WebOTPDomain: "127.0.0.1"}}, "WebOTPDomain"},
		{"WebOTP with an end", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{WebOTPDomain: "example.com."}}, "WebOTPDomain"},
		{"hash of ten characters", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{AndroidAppHash: "FA+9qCX9VS"}}, "AndroidAppHash"},
		{"hash of other characters", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{AndroidAppHash: "FA-9qCX9VSu"}}, "AndroidAppHash"},
		{"hash with a line feed", gin.New(), memstore.New(), smstest.New(), threepid.Options{Messages: threepid.Messages{AndroidAppHash: "FA+9qCX9VSu\n"}}, "AndroidAppHash"},
		{"unknown endpoint", gin.New(), memstore.New(), smstest.New(), threepid.Options{OmitEndpoints: []threepid.Endpoint{"/x"}}, "Omit"},
		{"country in lower case", gin.New(), memstore.New(), smstest.New(), threepid.Options{Policy: limits.Policy{AllowCountries: []string{"gb"}}}, "AllowCountries"},
		{"country unknown", gin.New(), memstore.New(), smstest.New(), threepid.Options{Policy: limits.Policy{DenyCountries: []string{"ZZ"}}}, "DenyCountries"},
		{"prefix without plus sign", gin.New(), memstore.New(), smstest.New(), threepid.Options{Policy: limits.Policy{DenyPrefixes: []string{"4470"}}}, "DenyPrefixes"},
		{"prefix of no digits", gin.New(), memstore.New(), smstest.New(), threepid.Options{Policy: limits.Policy{DenyPrefixes: []string{"+"}}}, "DenyPrefixes"},
		{"test number without plus sign", gin.New(), memstore.New(), smstest.New(), testNumbers("447700900001 123456"), "TestNumbers"},
		{"test number with a trunk zero", gin.New(), memstore.New(), smstest.New(), testNumbers("+4407700900001 123456"), "TestNumbers"},
		{"test number that is none", gin.New(), memstore.New(), smstest.New(), testNumbers("+44 123456"), "TestNumbers"},
		{"test number's code too short", gin.New(), memstore.New(), smstest.New(), testNumbers("+447700900001 12345"), "6 digits"},
		{"test number's code too long", gin.New(), memstore.New(), smstest.New(), testNumbers("+447700900001 1234567"), "6 digits"},
		{"test number's code of letters", gin.New(), memstore.New(), smstest.New(), testNumbers("+447700900001 12345x"), "6 digits"},
		{"test number's code of another script", gin.New(), memstore.New(), smstest.New(), testNumbers("+447700900001 ٠٠٠"), "6 digits"},
		{"test number twice", gin.New(), memstore.New(), smstest.New(), testNumbers("+447700900001 123456", "+447700900001 654321"), "duplicated"},
		{"limit of nothing", gin.New(), memstore.New(), smstest.New(), limitOf(0, time.Minute), "Limits.PerNumber"},
		{"limit without end", gin.New(), memstore.New(), smstest.New(), limitOf(1, time.Millisecond), "Limits.PerNumber"},
		{"limit of years", gin.New(), memstore.New(), smstest.New(), limitOf(1, 1<<62), "Limits.PerNumber"},
		{"limit of years together", gin.New(), memstore.New(), smstest.New(), limitOf(1<<62, time.Hour), "Limits.PerNumber"},
		{"more limits than are kept", gin.New(), memstore.New(), smstest.New(), threepid.Options{Limits: limits.Limits{
			PerCountry: slices.Repeat([]limits.Limit{{Burst: 1, Every: time.Hour}}, 9),
		}}, "Limits.PerCountry"},
		{"fewer wrong codes than none", gin.New(), memstore.New(), smstest.New(), threepid.Options{Limits: limits.Limits{MaxWrongCodes: -1}}, "MaxWrongCodes"},
		{"guard of fewer than no numbers", gin.New(), memstore.New(), smstest.New(), guardOf(limits.Guard{MinNumbers: -1}), "MinNumbers"},
		{"guard of too many numbers", gin.New(), memstore.New(), smstest.New(), guardOf(limits.Guard{MinNumbers: 1 << 62}), "MinNumbers"},
		{"guard of more than all", gin.New(), memstore.New(), smstest.New(), guardOf(limits.Guard{MinValidatedPercent: 101}), "MinValidatedPercent"},
		{"guard that looks too short", gin.New(), memstore.New(), smstest.New(), guardOf(limits.Guard{Window: time.Second}), "Window"},
		{"guard that looks too far", gin.New(), memstore.New(), smstest.New(), guardOf(limits.Guard{Window: 25 * time.Hour}), "Window"},
		{"guard that blocks for too short", gin.New(), memstore.New(), smstest.New(), guardOf(limits.Guard{InitialBlock: time.Second}), "InitialBlock"},
		{"guard that blocks for less at most", gin.New(), memstore.New(), smstest.New(), guardOf(limits.Guard{MaxBlock: time.Minute}), "MaxBlock"},
		{"guard that allows what is none", gin.New(), memstore.New(), smstest.New(), guardOf(limits.Guard{Allow: []string{"44"}}), "Guard.Allow"},
		{"next link host with a scheme", gin.New(), memstore.New(), smstest.New(), threepid.Options{NextLinkHosts: []string{"https://a"}}, "NextLinkHosts"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.opts.Logger = slogDiscard()
			plugin, err := threepid.Register(row.router, row.store, row.sender, row.opts)
			if plugin != nil || err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, %v; want an error with %q", plugin, err, row.says)
			}
			if engine, ok := row.router.(*gin.Engine); ok && engine != nil && len(engine.Routes()) > 0 {
				t.Errorf("routes were mounted: %v", engine.Routes())
			}
		})
	}
}

func inGerman(t threepid.Templates) threepid.Options {
	return threepid.Options{Messages: threepid.Messages{Templates: map[string]threepid.Templates{"de": t}}}
}

// testNumbers are options with test numbers, each given as "number code".
func testNumbers(list ...string) threepid.Options {
	var o threepid.Options
	for _, s := range list {
		number, code, _ := strings.Cut(s, " ")
		o.Policy.TestNumbers = append(o.Policy.TestNumbers, limits.TestNumber{Number: number, Code: code})
	}
	return o
}

func limitOf(burst int, per time.Duration) threepid.Options {
	return threepid.Options{Limits: limits.Limits{PerNumber: []limits.Limit{{Burst: burst, Every: per}}}}
}

func guardOf(g limits.Guard) threepid.Options { return threepid.Options{Guard: g} }

func TestRegisterRefusesARouteTheHostHas(t *testing.T) {
	t.Parallel()
	hosts := func(c *gin.Context) { c.String(http.StatusTeapot, "the host's own") }
	for name, add := range map[string]func(gin.IRouter){
		"the same route": func(r gin.IRouter) { r.POST(addPath, hosts) },
		"a catch-all":    func(r gin.IRouter) { r.POST("/_api/*rest", hosts) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			router := gin.New()
			add(router)
			before := len(router.Routes())
			_, err := threepid.Register(router, memstore.New(), smstest.New(), threepid.Options{Logger: slogDiscard()})
			if err == nil || !strings.Contains(err.Error(), "Options.OmitEndpoints") {
				t.Errorf("error %v", err)
			}
			if len(router.Routes()) != before {
				t.Error("routes were mounted all the same")
			}
			grouped := gin.New()
			add(grouped)
			if _, err := threepid.Register(grouped.Group("/"), memstore.New(), smstest.New(), threepid.Options{Logger: slogDiscard()}); err == nil {
				t.Error("no error through a group")
			}
		})
	}
}

func TestRegisterOnAGroup(t *testing.T) {
	t.Parallel()
	router := gin.New()
	var passed atomic.Int64
	group := router.Group("/chat", func(*gin.Context) { passed.Add(1) })
	texts := smstest.New()
	plugin, err := threepid.Register(group, memstore.New(), texts, threepid.Options{Logger: slogDiscard(), PublicURL: "https://example.org"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plugin.Close() }()
	w := post(t, router, http.StatusOK, "/chat"+addPath, request)
	if !strings.Contains(w.Body.String(), `"https://example.org/chat/_api/`) {
		t.Errorf("%s", w.Body)
	}
	if passed.Load() != 1 {
		t.Error("the group's middleware did not run")
	}
}

// TestExpiredSessionsAreDeleted advances the fake clock of a synctest bubble by two days.
func TestExpiredSessionsAreDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		router, st := gin.New(), memstore.New()
		plugin, err := threepid.Register(router, st, smstest.New(), threepid.Options{Logger: slogDiscard()})
		if err != nil {
			t.Fatal(err)
		}
		post(t, router, http.StatusOK, addPath, request)
		find := func() error {
			key := store.SessionKey(secret, "GB", msisdn)
			rows, err := st.View(t.Context(), store.Names{Session: store.SessionRef{Key: key}})
			if err == nil && rows.Session.SID == "" {
				err = store.ErrNotFound
			}
			return err
		}
		time.Sleep(47 * time.Hour)
		if err := find(); err != nil {
			t.Errorf("a session is kept for a day after it expired: %v", err)
		}
		time.Sleep(2 * time.Hour)
		if err := find(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("a day later it is deleted: %v", err)
		}
		_ = plugin.Close()
	})
}

// TestRowsRevealNothing looks through the database file for what must not be in it.
func TestRowsRevealNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	router, texts := gin.New(), smstest.New()
	plugin, err := threepid.Register(router, openSQLite(t, dir), texts, threepid.Options{
		Logger:      slogDiscard(),
		TokenDigits: 9, // six digits could be part of a timestamp
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plugin.Close() }()
	var asked struct{ SID string }
	if err := json.Unmarshal(post(t, router, http.StatusOK, addPath, request).Body.Bytes(), &asked); err != nil {
		t.Fatal(err)
	}
	text, _ := texts.Last()
	token := smstest.Token(text)
	submit := func(status int, token string) {
		post(t, router, status, subPath, fmt.Sprintf(`{"client_secret":%q,"sid":%q,"token":%q}`, secret, asked.SID, token))
	}
	submit(http.StatusBadRequest, strings.Map(func(digit rune) rune { return '0' + (digit-'0'+1)%10 }, token))
	submit(http.StatusOK, token)

	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var found bool
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found = found || bytes.Contains(data, []byte(asked.SID))
		for _, s := range []string{secret, token, "192.0.2.1"} { // the client address of httptest
			for _, spelled := range [][]byte{
				[]byte(s), []byte(hex.EncodeToString([]byte(s))), []byte(base64.RawStdEncoding.EncodeToString([]byte(s))),
			} {
				if bytes.Contains(data, spelled) {
					t.Errorf("%s holds %q as %q", f.Name(), s, spelled)
				}
			}
		}
	}
	if !found {
		t.Error("looked in the wrong files: the sid is in none")
	}
}

// post sends a body to the router without a network, and returns the response, which must
// have the given status.
func post(tb testing.TB, router http.Handler, status int, path, body string) *httptest.ResponseRecorder {
	tb.Helper()
	w := httptest.NewRecorder()
	router.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	if w.Code != status {
		tb.Fatalf("%d %s", w.Code, w.Body)
	}
	return w
}
