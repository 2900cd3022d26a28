package sns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"example.com/threepid/internal/providertest"
	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
	"example.com/threepid/sms/sns"
)

const published = `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult>` +
	`<MessageId>94f20ce6-13c5-43a0-9a9e-ca52d816e90b</MessageId></PublishResult>` +
	`<ResponseMetadata><RequestId>f187a3c1-376f-11df-8963-01868b7c937a</RequestId></ResponseMetadata></PublishResponse>`

func failed(code, words string) string {
	return `<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>` + code +
		`</Code><Message>` + words + `</Message></Error><RequestId>9dd01905-5012-5f99-8663-4b3ecd0dfaef</RequestId></ErrorResponse>`
}

type credentials struct{ err error }

func (c credentials) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AKIDk3y", SecretAccessKey: "secret-k3y", SessionToken: "token-k3y"}, c.err
}

func config(address string) aws.Config {
	return aws.Config{Region: "eu-west-1", Credentials: credentials{}, BaseEndpoint: &address}
}

func open(tb testing.TB, address string) sms.Sender {
	tb.Helper()
	return openWith(tb, sns.Options{Config: config(address), From: "Example"})
}

func openWith(tb testing.TB, o sns.Options) sms.Sender {
	tb.Helper()
	s, err := sns.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestCodes reads rows with a code and, where the message decides, one of the messages.
func TestCodes(t *testing.T) {
	t.Parallel()
	providertest.Codes(t, "Amazon SNS", open, func(row string) (int, string) {
		code, words, _ := strings.Cut(row, " ")
		if code == "Publish" {
			return http.StatusOK, published
		}
		if _, known := sns.ClassOf(code, words); !known {
			t.Errorf("%s is in docs/PROVIDERS.md alone", code)
		}
		return http.StatusBadRequest, failed(code, "Invalid: "+words+" Reason: +447400123456 k3y")
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status     int
		body, want string
	}{
		{200, published, "accepted"},
		{200, "", "uncertain"},
		{200, "<html>123456", "uncertain"},
		{200, "<PublishResponse><PublishResult></PublishResult></PublishResponse>", "uncertain"},
		{307, "", "misconfigured"},
		{400, failed("SomethingNew", "447400123456"), "misconfigured"},
		{400, failed("k3y 123456", "447400123456"), "misconfigured"},
		{403, "<html>123456", "misconfigured"},
		{429, failed("SomethingNew", ""), "temporary"},
		{500, "", "temporary"},
		{500, failed("SomethingNew", ""), "temporary"},
		{502, "<html>123456", "uncertain"},
		{504, "", "uncertain"},
	} {
		err := open(t, providertest.Server(t, c.status, c.body)).Send(t.Context(), providertest.Message())
		if got := providertest.Class(err); got != c.want {
			t.Errorf("%d %s: %s, want %s: %v", c.status, c.body, got, c.want, err)
		}
		providertest.TellsNothing(t, err)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	providertest.Network(t, open)
}

// TestOneRequest checks that a request that the SDK would repeat is sent once, because the first
// may have sent the SMS.
func TestOneRequest(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]http.HandlerFunc{
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"500":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"503":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"throttled": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, failed("Throttling", "Rate exceeded"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				handle(w, r)
			}))
			defer server.Close()
			o := sns.Options{Config: config(server.URL)}
			o.Config.RetryMaxAttempts, o.Config.RetryMode = 5, aws.RetryModeAdaptive
			if err := openWith(t, o).Send(t.Context(), providertest.Message()); err == nil || asked.Load() != 1 {
				t.Errorf("%v, after %d requests", err, asked.Load())
			}
		})
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	const typed = "AWS.SNS.SMS.SMSType=Transactional"
	for _, c := range []struct {
		options, from string
		more          map[string]string
		want          string
	}{
		{"", "", nil, typed},
		{"Example", "", nil, "AWS.SNS.SMS.SenderID=Example " + typed},
		{"Example", "Other", nil, "AWS.SNS.SMS.SenderID=Other " + typed},
		{"Example", "+12065550100", nil, "AWS.MM.SMS.OriginationNumber=+12065550100 " + typed},
		{"12345", "", map[string]string{"AWS.SNS.SMS.MaxPrice": "0.20"}, "AWS.MM.SMS.OriginationNumber=12345 " + typed + " AWS.SNS.SMS.MaxPrice=0.20"},
		{"", "", map[string]string{"AWS.SNS.SMS.SMSType": "Promotional"}, "AWS.SNS.SMS.SMSType=Promotional"},
	} {
		var form url.Values
		var authorization string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			form, authorization = r.PostForm, r.Header.Get("Authorization")
			_, _ = io.WriteString(w, published)
		}))
		m := providertest.Message()
		m.Text, m.From = "123456 & \"ф\"\n", c.from
		o := sns.Options{Config: config(server.URL + "/"), From: c.options, Attributes: c.more}
		if err := openWith(t, o).Send(t.Context(), m); err != nil {
			t.Error(err)
		}
		server.Close()
		if form.Get("Action") != "Publish" || form.Get("PhoneNumber") != m.To || form.Get("Message") != m.Text || form.Has("TopicArn") ||
			!strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 Credential=AKIDk3y/") || !strings.Contains(authorization, "/eu-west-1/sns/") {
			t.Errorf("%v, %s", form, authorization)
		}
		if got := attributes(form); !same(got, c.want) {
			t.Errorf("attributes %s, want %s", got, c.want)
		}
	}
}

// attributes returns the attributes in a form, as name=value.
func attributes(form url.Values) string {
	var all []string
	for i := 1; form.Has(fmt.Sprintf("MessageAttributes.entry.%d.Name", i)); i++ {
		entry := fmt.Sprintf("MessageAttributes.entry.%d.", i)
		all = append(all, form.Get(entry+"Name")+"="+form.Get(entry+"Value.StringValue"))
	}
	return strings.Join(all, " ")
}

// same compares words in any order.
func same(a, b string) bool {
	count := map[string]int{}
	for _, word := range strings.Fields(a) {
		count[word]++
	}
	for _, word := range strings.Fields(b) {
		count[word]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// slow is a credentials provider that does not respond in time.
type slow struct{ error }

func (slow) Timeout() bool   { return true }
func (slow) Temporary() bool { return true }

// TestCredentials checks that nothing was sent if there are no credentials.
func TestCredentials(t *testing.T) {
	t.Parallel()
	address := providertest.Server(t, http.StatusOK, published)
	for _, c := range []struct {
		err  error
		want string
	}{
		{errors.New("no k3y of 447400123456"), "misconfigured"},
		{slow{errors.New("i/o timeout, k3y")}, "temporary"},
		{context.DeadlineExceeded, "temporary"},
	} {
		o := sns.Options{Config: config(address)}
		o.Config.Credentials = credentials{c.err}
		err := openWith(t, o).Send(t.Context(), providertest.Message())
		if got := providertest.Class(err); got != c.want || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v: %s, want %s", err, got, c.want)
		}
		providertest.TellsNothing(t, err)
	}
	over, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	if err := open(t, address).Send(over, providertest.Message()); providertest.Class(err) != httpsend.Temporary.String() {
		t.Errorf("time was over: %v", err)
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*sns.Options){
		"no region":       func(o *sns.Options) { o.Config.Region = "" },
		"no region's":     func(o *sns.Options) { o.Config.Region = "k3y region" },
		"no credentials":  func(o *sns.Options) { o.Config.Credentials = nil },
		"endpoint":        func(o *sns.Options) { o.Config.BaseEndpoint = aws.String("https://me:k3y@example.com") },
		"empty attribute": func(o *sns.Options) { o.Attributes = map[string]string{"AWS.SNS.SMS.MaxPrice": ""} },
	} {
		o := sns.Options{Config: config("https://sns.example.com")}
		change(&o)
		s, err := sns.New(o)
		if err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
		providertest.TellsNothing(t, err)
	}
}
