package gateway_test

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"example.com/threepid/internal/providertest"
	"example.com/threepid/sms"
	"example.com/threepid/sms/gateway"
)

func openKannel(tb testing.TB, address string) sms.Sender {
	tb.Helper()
	return open(tb, gateway.Kannel(address+"/cgi-bin/sendsms", "k3y", "pass-k3y", "Example"))
}

func openJasmin(tb testing.TB, address string) sms.Sender {
	tb.Helper()
	return open(tb, gateway.Jasmin(address+"/send", "k3y", "pass-k3y", "Example"))
}

// openPhone is an app on a phone that takes JSON.
func openPhone(tb testing.TB, address string) sms.Sender {
	tb.Helper()
	return open(tb, phone(address))
}

func phone(address string) gateway.Options {
	return gateway.Options{
		URL:    address + "/message",
		Header: http.Header{"Content-Type": {"application/json"}},
		Body:   `{"textMessage":{"text":"{{.Text}}"},"phoneNumbers":["{{.To}}"],"try":{{.Attempt}}}`,
		User:   "k3y", Password: "pass-k3y",
	}
}

func open(tb testing.TB, o gateway.Options) sms.Sender {
	tb.Helper()
	s, err := gateway.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestKannelCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Kannel", openKannel, func(code string) (int, string) {
		return answerOf(t, code, "%s k3y 447400123456")
	})
}

func TestJasminCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Jasmin", openJasmin, func(code string) (int, string) {
		if code == "200 Success" {
			return http.StatusOK, `Success "07033084-5cfd-4812-90a4-e4d24ffb6e3d"`
		}
		return answerOf(t, code, `Error "%s, k3y 447400123456"`)
	})
}

// answerOf splits a code in docs/PROVIDERS.md into status and body.
func answerOf(tb testing.TB, code, format string) (status int, body string) {
	tb.Helper()
	number, words, _ := strings.Cut(code, " ")
	status, err := strconv.Atoi(number)
	if err != nil || words == "" {
		tb.Fatalf("docs/PROVIDERS.md has %q, which is no status and words", code)
	}
	return status, fmt.Sprintf(format, words)
}

// TestResponsesOfOtherServers checks responses of other servers in the gateway's place. The status alone does not
// mean that a message was accepted.
func TestResponsesOfOtherServers(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]providertest.Open{"Kannel": openKannel, "Jasmin": openJasmin} {
		for _, row := range []struct {
			status int
			body   string
			want   string
		}{
			{200, "<html>Not routable. denied filter mismatch Success</html>", "uncertain"},
			{202, "", "uncertain"},
			{200, "0: Accepted for delivery", "uncertain"}, // Kannel would return 202
			{502, "", "uncertain"},
			{429, "", "temporary"},
			{500, "Success", "temporary"},
			{404, "0: Accepted for delivery", "misconfigured"},
		} {
			err := open(t, providertest.Server(t, row.status, row.body)).Send(t.Context(), providertest.Message())
			if got := providertest.Class(err); got != row.want {
				t.Errorf("%s, %d %q: %s, want %s", name, row.status, row.body, got, row.want)
			}
		}
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]providertest.Open{"Kannel": openKannel, "Jasmin": openJasmin, "phone": openPhone} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			providertest.Network(t, open)
		})
	}
}

// TestMatches checks that responses are classified in the order of the options.
func TestMatches(t *testing.T) {
	t.Parallel()
	o := gateway.Options{
		Rejected:      gateway.Match{Body: `"code": ?"blocked"`},
		Misconfigured: gateway.Match{Status: []int{200}, Body: "licence"},
		Temporary:     gateway.Match{Status: []int{409, 200}, Body: "^busy"},
		Accepted:      gateway.Match{Status: []int{200, 302}},
	}
	for _, row := range []struct {
		status int
		body   string
		want   string
	}{
		{200, "ok", "accepted"},
		{302, "", "accepted"},
		{201, "ok", "uncertain"},
		{200, `{"code":"blocked"} licence`, "rejected"},
		{500, `{"code": "blocked"}`, "rejected"},
		{200, "your licence", "misconfigured"},
		{500, "your licence", "temporary"},
		{409, "busy", "temporary"},
		{409, "not busy", "misconfigured"},
	} {
		o.URL = providertest.Server(t, row.status, row.body)
		if got := providertest.Class(open(t, o).Send(t.Context(), providertest.Message())); got != row.want {
			t.Errorf("%d %q: %s, want %s", row.status, row.body, got, row.want)
		}
	}
}

// got is a request as the gateway parses it.
type got struct {
	method, target, body, user, password string

	query  url.Values
	header http.Header
}

// send sends a message through a gateway with these options, and returns what arrived.
func send(tb testing.TB, options func(address string) gateway.Options, m sms.Message) got {
	tb.Helper()
	var g got
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		g = got{r.Method, r.URL.RequestURI(), string(body), user, password, r.URL.Query(), r.Header}
	}))
	defer server.Close()
	o := options(server.URL)
	o.Accepted = gateway.Match{}
	if err := open(tb, o).Send(tb.Context(), m); err != nil {
		tb.Error(err)
	}
	return g
}

func TestRequests(t *testing.T) {
	t.Parallel()
	kannel := func(address string) gateway.Options {
		return gateway.Kannel(address+"/sendsms", "me", "p&{{.Text}}", "Example")
	}
	jasmin := func(address string) gateway.Options {
		return gateway.Jasmin(address+"/send", "me", "p&{{.Text}}", "Example")
	}
	for _, row := range []struct {
		options func(string) gateway.Options
		text    string
		from    string
		want    string
	}{
		{kannel, "1 is it.", "", "GET /sendsms?username=me&password=p%26%7B%7B.Text%7D%7D&from=Example&to=%2B447400123456&text=1%20is%20it.&charset=UTF-8&coding=0&validity=9"},
		{kannel, "1 ф", "", "GET /sendsms?username=me&password=p%26%7B%7B.Text%7D%7D&from=Example&to=%2B447400123456&text=1%20%D1%84&charset=UTF-8&coding=2&validity=9"},
		{jasmin, "1 is it.", "", "GET /send?username=me&password=p%26%7B%7B.Text%7D%7D&from=Example&to=447400123456&coding=0&content=1%20is%20it.&validity-period=9"},
		{jasmin, "1 ф😀", "A&B", "GET /send?username=me&password=p%26%7B%7B.Text%7D%7D&from=A%26B&to=447400123456&coding=8&hex-content=003100200444D83DDE00&validity-period=9"},
		{phone, "1 \"is\"\n<it>", "", `POST /message {"textMessage":{"text":"1 \"is\"\n\u003cit\u003e"},"phoneNumbers":["+447400123456"],"try":1}`},
	} {
		m := providertest.Message()
		m.Text, m.From = row.text, row.from
		g := send(t, row.options, m)
		if got := strings.TrimSpace(g.method + " " + g.target + " " + g.body); got != row.want {
			t.Errorf("got  %s\nwant %s", got, row.want)
		}
		if name := strings.Split(strings.TrimPrefix(row.want, "GET /"), "?")[0]; strings.HasPrefix(row.want, "GET") {
			providertest.Validity(t, map[string]string{"sendsms": "gateway.Kannel", "send": "gateway.Jasmin"}[name], row.want)
		}
	}
	g := send(t, phone, providertest.Message())
	if g.user != "k3y" || g.password != "pass-k3y" || g.header.Get("Content-Type") != "application/json" {
		t.Errorf("%q %q %v", g.user, g.password, g.header)
	}
}

// hostile is a text that must arrive unchanged.
const hostile = "1\"'&to=+1900&<x>\r\n{{.To}}%26;\\ф ]]>\x00#?/../"

// TestInjection checks that such a text arrives unchanged in every context.
func TestInjection(t *testing.T) {
	t.Parallel()
	m := providertest.Message()
	m.Text, m.From = hostile, hostile
	typed := func(contentType, body string) func(string) gateway.Options {
		return func(address string) gateway.Options {
			return gateway.Options{
				URL:    address + "/{{.From}}/?text={{.Text}}&from={{with .From}}{{.}}{{end}}&all={{range .Attempt}}{{printf `%s` $.Text}}{{end}}",
				Header: http.Header{"Content-Type": {contentType}}, Body: body,
			}
		}
	}

	g := send(t, typed("application/json; charset=utf-8", `{"{{.To}}":"{{if .Unicode}}{{.Text}}{{end}}","n":{{.Attempt}},"from":"{{$f := .From}}{{$f}}"}`), m)
	var object map[string]any
	if err := json.Unmarshal([]byte(g.body), &object); err != nil || len(object) != 3 || object[m.To] != hostile || object["from"] != hostile {
		t.Errorf("%v: %s", err, g.body)
	}
	if len(g.query) != 3 || g.query.Get("text") != hostile || g.query.Get("from") != hostile || g.query.Get("all") != hostile {
		t.Errorf("%q", g.target)
	}
	if path, _, _ := strings.Cut(g.target, "?"); path != "/"+strings.ReplaceAll(url.QueryEscape(hostile), "+", "%20")+"/" {
		t.Errorf("path %q", path)
	}

	g = send(t, typed("application/x-www-form-urlencoded", "to={{.To}}&text={{.Text}}"), m)
	if form, err := url.ParseQuery(g.body); err != nil || len(form) != 2 || form.Get("text") != hostile || form.Get("to") != m.To {
		t.Errorf("%v: %s", err, g.body)
	}

	g = send(t, typed("text/xml", `<sms to="{{.To}}">{{.Text}}</sms>`), m)
	var element struct {
		To       string     `xml:"to,attr"`
		Text     string     `xml:",chardata"`
		Children []struct{} `xml:",any"`
	}
	// XML cannot represent a NUL.
	if err := xml.Unmarshal([]byte(g.body), &element); err != nil || len(element.Children) != 0 ||
		element.Text != strings.ReplaceAll(hostile, "\x00", "\ufffd") || element.To != m.To {
		t.Errorf("%v: %s", err, g.body)
	}

	if g = send(t, typed("text/plain", "{{.Text}}"), m); g.body != hostile {
		t.Errorf("%q", g.body)
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*gateway.Options){
		"no URL":             func(o *gateway.Options) { o.URL = "" },
		"no scheme":          func(o *gateway.Options) { o.URL = "k3y.example.com/" },
		"another scheme":     func(o *gateway.Options) { o.URL = "ftp://k3y.example.com/" },
		"no host":            func(o *gateway.Options) { o.URL = "https:///k3y" },
		"user in the URL":    func(o *gateway.Options) { o.URL = "https://me:k3y@example.com/" },
		"host of a template": func(o *gateway.Options) { o.URL = "https://{{.Country}}.example.com/k3y" },
		"port of a template": func(o *gateway.Options) { o.URL = "https://example.com:{{.Attempt}}/k3y" },
		"URL no template":    func(o *gateway.Options) { o.URL = "https://example.com/k3y?{{" },
		"URL no URL":         func(o *gateway.Options) { o.URL = "https://example.com:k3y/" },
		"field in the URL":   func(o *gateway.Options) { o.URL = "https://example.com/k3y?to={{.Phone}}" },
		"escaping by hand":   func(o *gateway.Options) { o.URL = "https://example.com/k3y?to={{query .To}}" },
		"body no template":   func(o *gateway.Options) { o.Body = "k3y {{" },
		"field in the body":  func(o *gateway.Options) { o.Body = `"k3y {{.Phone}}"` },
		"in one alphabet":    func(o *gateway.Options) { o.Body = `"k3y {{if .Unicode}}{{.Phone}}{{end}}"` },
		"no quotes":          func(o *gateway.Options) { o.Body = `{"k3y":{{.Text}}}` },
		"no content type":    func(o *gateway.Options) { o.Header.Del("Content-Type") },
		"unknown content":    func(o *gateway.Options) { o.Header.Set("Content-Type", "application/x-k3y") },
		"method":             func(o *gateway.Options) { o.Method = "k3y method" },
		"header's value":     func(o *gateway.Options) { o.Header.Set("Authorization", "k3y\r\nHost: x") },
		"header's name":      func(o *gateway.Options) { o.Header["X Key"] = []string{"k3y"} },
		"user":               func(o *gateway.Options) { o.User = "me:k3y" },
		"rejected":           func(o *gateway.Options) { o.Rejected.Body = "k3y(" },
		"misconfigured":      func(o *gateway.Options) { o.Misconfigured.Body = "k3y(" },
		"temporary":          func(o *gateway.Options) { o.Temporary.Body = "k3y(" },
		"accepted":           func(o *gateway.Options) { o.Accepted.Body = "k3y(" },
	} {
		o := phone("https://example.com")
		change(&o)
		s, err := gateway.New(o)
		if err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
		providertest.TellsNothing(t, err)
	}
}

// TestOptionsAreCopied changes the options after New, which must have no effect.
func TestOptionsAreCopied(t *testing.T) {
	t.Parallel()
	var key string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { key = r.Header.Get("X-Api-Key") }))
	defer server.Close()
	o := gateway.Options{URL: server.URL, Header: http.Header{"X-Api-Key": {"one"}}, Accepted: gateway.Match{Status: []int{200}}}
	s := open(t, o)
	o.Header.Set("X-Api-Key", "two")
	o.Accepted.Status[0] = 201
	if err := s.Send(t.Context(), providertest.Message()); err != nil || key != "one" {
		t.Errorf("%v, with key %q", err, key)
	}
}

// TestEmptyBody uses a template that is empty for some messages.
func TestEmptyBody(t *testing.T) {
	t.Parallel()
	body := []byte("none")
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) }))
	defer server.Close()
	s := open(t, gateway.Options{URL: server.URL, Header: http.Header{"Content-Type": {"text/plain"}}, Body: "{{if .Unicode}}ucs2{{end}}"})
	if err := s.Send(t.Context(), providertest.Message()); err != nil || len(body) != 0 {
		t.Errorf("%v, with body %q", err, body)
	}
}
