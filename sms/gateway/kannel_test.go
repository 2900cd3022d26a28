package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/gin-gonic/gin"

	"example.com/threepid"
	"example.com/threepid/internal/providertest"
	"example.com/threepid/sms"
	"example.com/threepid/sms/gateway"
	"example.com/threepid/sms/smstest"
	"example.com/threepid/store/memstore"
)

// kannelTime bounds a test with one Kannel.
const kannelTime = 20 * time.Second

// kannelConfig configures an SMS centre that refuses +447900…, and a user who may not send to
// +447901….
const kannelConfig = `
group = core
admin-port = %[1]d
admin-interface = 127.0.0.1
admin-password = admin
smsbox-port = %[2]d
smsbox-interface = 127.0.0.1
box-allow-ip = 127.0.0.1
box-deny-ip = "*.*.*.*"

group = smsc
smsc = fake
smsc-id = fake
port = %[3]d
connect-allow-ip = 127.0.0.1
denied-prefix = "+447900"

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = %[4]d
sendsms-interface = 127.0.0.1

group = sendsms-user
username = me
password = k3y
black-list-regex = "^\\+447901"
`

// kannel is a real Kannel with an SMS centre that records messages.
type kannel struct {
	sendsms string
	centre  *process
	ctx     context.Context
}

// process is a program that runs until the test ends.
type process struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// await returns the match of a pattern in the log, or fails the test after a while.
func (p *process) await(ctx context.Context, tb testing.TB, pattern string) []string {
	tb.Helper()
	for re := regexp.MustCompile(pattern); ; time.Sleep(5 * time.Millisecond) {
		if found := re.FindStringSubmatch(p.String()); found != nil {
			return found
		}
		if ctx.Err() != nil {
			tb.Fatalf("nothing matches %s in\n%s", pattern, p)
		}
	}
}

// programs finds Kannel's programs, or skips the test.
func programs(tb testing.TB) (bearerbox, smsbox, fakesmsc string) {
	tb.Helper()
	find := func(name, elsewhere string) string {
		for _, path := range []string{name, elsewhere + "/" + name} {
			if found, err := exec.LookPath(path); err == nil {
				return found
			}
		}
		tb.Skipf("there is no %s: on Debian and Ubuntu, apt-get install kannel kannel-extras", name)
		return ""
	}
	return find("bearerbox", "/usr/sbin"), find("smsbox", "/usr/sbin"), find("fakesmsc", "/usr/lib/kannel/test")
}

// leash runs a program until its standard input ends. That happens when the process at the other
// end has ended, so a test that is killed leaves no program behind.
const leash = `"$@" & read _; kill -9 $!; wait`

// run starts a program that ends before the test's directory is removed.
func run(ctx context.Context, tb testing.TB, dir, program string, args ...string) *process {
	tb.Helper()
	p := new(process)
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", leash, "sh", program}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, p, p
	end, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	cmd.Cancel = end.Close
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = end.Close() // the program may have ended already
		_ = cmd.Wait()
	})
	return p
}

// freePorts returns ports that no other program takes before Kannel does: they are below those that
// systems assign automatically.
func freePorts(tb testing.TB, n int) []any {
	tb.Helper()
	const low, span = 20_000, 10_000
	var ports []any
	for tries := 0; len(ports) < n; tries++ {
		port := low + rand.IntN(span)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		switch {
		case err == nil && !slices.Contains(ports, any(port)):
			ports = append(ports, port)
		case tries > 100*n:
			tb.Fatal("no ports are free")
		}
		if err == nil {
			_ = listener.Close()
		}
	}
	return ports
}

func startKannel(t *testing.T) *kannel {
	t.Helper()
	bearerbox, smsbox, fakesmsc := programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), kannelTime)
	t.Cleanup(cancel)
	dir := t.TempDir()
	ports := freePorts(t, 4)
	config := filepath.Join(dir, "kannel.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, kannelConfig, ports...), 0o600); err != nil {
		t.Fatal(err)
	}
	box := run(ctx, t, dir, bearerbox, "-v", "0", config)
	box.await(ctx, t, "smsc_fake: start called")
	waitFor(ctx, t, fmt.Sprintf("127.0.0.1:%d", ports[1]))
	run(ctx, t, dir, smsbox, "-v", "0", config).await(ctx, t, "Connected to bearerbox")
	centre := run(ctx, t, dir, fakesmsc, "-v", "0", "-H", "127.0.0.1", "-r", fmt.Sprint(ports[2]), "-m", "0", "none")
	sendsms := fmt.Sprintf("127.0.0.1:%d", ports[3])
	waitFor(ctx, t, sendsms)
	return &kannel{sendsms: "http://" + sendsms + "/cgi-bin/sendsms", centre: centre, ctx: ctx}
}

// waitFor waits until a program listens.
func waitFor(ctx context.Context, tb testing.TB, address string) {
	tb.Helper()
	for ; ; time.Sleep(5 * time.Millisecond) {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = connection.Close()
			return
		}
		if ctx.Err() != nil {
			tb.Fatal(err)
		}
	}
}

// text is a message that the SMS centre received.
func (k *kannel) text(t *testing.T, to string) (from, text string) {
	t.Helper()
	found := k.centre.await(k.ctx, t, `(?s)Got message \d+: <(\S+) `+regexp.QuoteMeta(to)+` (\S+) (.*?)>\n`)
	if found[2] != "ucs-2" {
		return found[1], found[3]
	}
	octets, err := url.PathUnescape(strings.ReplaceAll(found[3], "+", "%20"))
	if err != nil || len(octets)%2 != 0 {
		t.Fatalf("%v: %q is no UCS-2", err, found[3])
	}
	var units []uint16
	for i := 0; i < len(octets); i += 2 {
		units = append(units, uint16(octets[i])<<8|uint16(octets[i+1]))
	}
	return found[1], string(utf16.Decode(units))
}

// TestKannel sends through a real Kannel, with Kannel's fake SMS centre.
func TestKannel(t *testing.T) {
	t.Parallel()
	k := startKannel(t)
	sender := open(t, gateway.Kannel(k.sendsms, "me", "k3y", "Example"))
	for number, m := range map[string]sms.Message{
		"+447400000001": {Text: "123456 is your Example code."},
		"+447400000002": {Text: `1&to=%2B1 {{.To}} "£" 'è' [@$_€] 100% #;?=+`, From: "Other"}, // all in GSM 7-bit
		"+447400000003": {Text: "123456 — ваш код 😀 &coding=0"},
	} {
		m.To = number
		if err := sender.Send(k.ctx, m); err != nil {
			t.Errorf("%q: %v", m.Text, err)
			continue
		}
		wanted := "Example"
		if m.From != "" {
			wanted = m.From
		}
		if from, text := k.text(t, number); text != m.Text || from != wanted {
			t.Errorf("the centre got %q from %s, want %q", text, from, m.Text)
		}
	}
	t.Run("refused", func(t *testing.T) { k.refuses(t) })
}

// refuses makes Kannel refuse messages for each reason.
func (k *kannel) refuses(t *testing.T) {
	t.Helper()
	for _, row := range []struct {
		number, password, from string
		want                   error
	}{
		{"+447900000001", "k3y", "Example", sms.ErrRejected}, // no SMS centre accepts it
		{"+447901000001", "k3y", "Example", sms.ErrRejected}, // blocked for this user
		{"+447400000004", "wrong-k3y", "Example", sms.ErrMisconfigured},
		{"+447400000004", "k3y", "", sms.ErrMisconfigured}, // without a global-sender
	} {
		m := providertest.Message()
		m.To = row.number
		err := open(t, gateway.Kannel(k.sendsms, "me", row.password, row.from)).Send(k.ctx, m)
		if !errors.Is(err, row.want) {
			t.Errorf("%+v: %v", row, err)
		}
		providertest.TellsNothing(t, err)
		if strings.Contains(k.centre.String(), row.number) {
			t.Errorf("%s was texted", row.number)
		}
	}
}

// TestPluginOverKannel validates a number with a code that is sent through a real Kannel.
func TestPluginOverKannel(t *testing.T) {
	t.Parallel()
	k := startKannel(t)
	gin.SetMode(gin.TestMode)
	router := gin.New()
	plugin, err := threepid.Register(router, memstore.New(), open(t, gateway.Kannel(k.sendsms, "me", "k3y", "Example")), threepid.Options{
		PublicURL: "https://example.org", Messages: threepid.Messages{Brand: "Пример"}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = plugin.Close() }()
	server := httptest.NewServer(router)
	defer server.Close()

	asked := k.post(t, server.URL, "requestToken", http.StatusOK,
		`{"client_secret":"monkeys_are_GREAT","country":"GB","phone_number":"07400123456","send_attempt":1}`)
	_, text := k.text(t, "+447400123456")
	if !strings.Contains(text, "Пример") {
		t.Errorf("the centre got %q", text)
	}
	code := smstest.Token(sms.Message{Text: text})
	submit := `{"client_secret":"monkeys_are_GREAT","sid":%q,"token":%q}`
	k.post(t, server.URL, "submitToken", http.StatusOK, fmt.Sprintf(submit, asked["sid"], code))
	v, err := plugin.Redeem(k.ctx, fmt.Sprint(asked["sid"]), "monkeys_are_GREAT")
	if err != nil || v.MSISDN != "447400123456" {
		t.Errorf("%+v, %v", v, err)
	}

	refused := k.post(t, server.URL, "requestToken", http.StatusBadRequest,
		`{"client_secret":"monkeys_are_GREAT2","country":"GB","phone_number":"07900123456","send_attempt":1}`)
	if refused["errcode"] != "M_DESTINATION_REJECTED" {
		t.Errorf("a number that Kannel rejects: %v", refused)
	}
}

// post sends a request to the plugin, as a client does.
func (k *kannel) post(t *testing.T, server, endpoint string, status int, body string) map[string]any {
	t.Helper()
	address := server + "/_api/client/v3/account/3pid/msisdn/" + endpoint
	req, err := http.NewRequestWithContext(k.ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer map[string]any
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != status {
		t.Fatalf("%s: %d %v, %v", endpoint, res.StatusCode, answer, err)
	}
	return answer
}

// TestKannelReceipts lets a real Kannel report that an SMS was delivered.
func TestKannelReceipts(t *testing.T) {
	t.Parallel()
	k := startKannel(t)
	const secret = "secret-of-the-receipts"
	reader, err := gateway.NewKannelReceipts(secret)
	if err != nil {
		t.Fatal(err)
	}
	type result struct {
		receipts []sms.Receipt
		err      error
	}
	results := make(chan result, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		receipts, err := reader.Read(r, nil)
		results <- result{receipts, err}
	}))
	defer server.Close()
	sender := open(t, gateway.WithKannelReceipts(gateway.Kannel(k.sendsms, "me", "k3y", "Example"), server.URL+"/receipts/kannel", secret))
	m := providertest.Message()
	m.To = "+447400000001"
	if err := sender.Send(k.ctx, m); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-results:
		want := []sms.Receipt{{Provider: "gateway", MessageID: m.ID, Status: sms.Delivered}}
		if r.err != nil || !slices.Equal(r.receipts, want) {
			t.Errorf("%+v, %v; want %+v", r.receipts, r.err, want)
		}
	case <-k.ctx.Done():
		t.Fatal("no receipt came")
	}
}
