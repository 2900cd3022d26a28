package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"example.com/threepid/sms"
	"example.com/threepid/sms/compose"
	"example.com/threepid/sms/console"
	"example.com/threepid/sms/gateway"
	"example.com/threepid/sms/infobip"
	"example.com/threepid/sms/plivo"
	"example.com/threepid/sms/receipt"
	"example.com/threepid/sms/sns"
	"example.com/threepid/sms/twilio"
	"example.com/threepid/sms/vonage"
	"example.com/threepid/sms/webhook"
)

// provider is an SMS provider that -sms can name. If url is set, a colon and a URL follow the name in
// -sms, and open receives the URL. All other settings are read from the environment. receipts returns
// a reader of the provider's delivery receipts; it is nil if the provider has none.
type provider struct {
	name     string
	url      bool
	open     func(env *environment, url string) (sms.Sender, error)
	receipts func(env *environment) (receipt.Reader, error)
}

// providers lists all providers: add a new one here. Environment variables have the same names as in
// the provider's own tools, if those have such variables.
func providers(stdout io.Writer) []provider {
	return []provider{
		{"console", false, func(*environment, string) (sms.Sender, error) { return console.New(stdout), nil }, nil},
		{"twilio", false, openTwilio, func(env *environment) (receipt.Reader, error) {
			return twilio.NewReceipts(env.must("TWILIO_AUTH_TOKEN"), env.receiptURL)
		}},
		{"vonage", false, func(env *environment, _ string) (sms.Sender, error) {
			return vonage.New(vonage.Options{
				APIKey: env.must("VONAGE_API_KEY"), APISecret: env.must("VONAGE_API_SECRET"), From: env.must("VONAGE_FROM"),
				BaseURL: env.get("VONAGE_BASE_URL"), ReceiptURL: env.receiptURL,
			})
		}, func(env *environment) (receipt.Reader, error) {
			return vonage.NewReceipts(env.must("VONAGE_SIGNATURE_SECRET"), nil)
		}},
		{"infobip", false, func(env *environment, _ string) (sms.Sender, error) {
			return infobip.New(infobip.Options{
				BaseURL: env.must("INFOBIP_BASE_URL"), APIKey: env.must("INFOBIP_API_KEY"), From: env.must("INFOBIP_FROM"),
				ReceiptURL: withToken(env.receiptURL, env.get("INFOBIP_RECEIPT_TOKEN")),
			})
		}, func(env *environment) (receipt.Reader, error) {
			return infobip.NewReceipts(env.must("INFOBIP_RECEIPT_TOKEN"))
		}},
		{"plivo", false, func(env *environment, _ string) (sms.Sender, error) {
			from, powerpack := env.either("PLIVO_FROM", "PLIVO_POWERPACK_UUID")
			return plivo.New(plivo.Options{
				AuthID: env.must("PLIVO_AUTH_ID"), AuthToken: env.must("PLIVO_AUTH_TOKEN"),
				From: from, PowerpackUUID: powerpack, BaseURL: env.get("PLIVO_BASE_URL"), ReceiptURL: env.receiptURL,
			})
		}, func(env *environment) (receipt.Reader, error) {
			return plivo.NewReceipts(env.must("PLIVO_AUTH_TOKEN"), env.receiptURL)
		}},
		{"sns", false, openSNS, nil},
		{"gateway", true, openGateway, func(env *environment) (receipt.Reader, error) {
			return gateway.NewKannelReceipts(env.must("THREEPID_GATEWAY_RECEIPT_SECRET"))
		}},
		{"webhook", true, func(env *environment, url string) (sms.Sender, error) {
			return webhook.New(url, webhook.Options{Secret: env.get("THREEPID_WEBHOOK_SECRET")})
		}, func(env *environment) (receipt.Reader, error) {
			return webhook.NewReceipts(env.must("THREEPID_WEBHOOK_SECRET"), nil)
		}},
	}
}

// openTwilio prefers an API key to the auth token, because each API key can be revoked separately.
func openTwilio(env *environment, _ string) (sms.Sender, error) {
	o := twilio.Options{
		AccountSID: env.must("TWILIO_ACCOUNT_SID"),
		APIKey:     env.get("TWILIO_API_KEY"),
		BaseURL:    env.get("TWILIO_BASE_URL"),
		ReceiptURL: env.receiptURL,
	}
	if o.APIKey != "" {
		o.APISecret = env.must("TWILIO_API_SECRET")
	} else {
		o.AuthToken, _ = env.either("TWILIO_AUTH_TOKEN", "TWILIO_API_KEY")
	}
	o.From, o.MessagingServiceSID = env.either("TWILIO_FROM", "TWILIO_MESSAGING_SERVICE_SID")
	return twilio.New(o)
}

// openSNS reads an access key from the environment. A server in AWS uses config.LoadDefaultConfig
// of the SDK instead, which finds the key of the server's role.
func openSNS(env *environment, _ string) (sms.Sender, error) {
	key := aws.Credentials{
		AccessKeyID: env.must("AWS_ACCESS_KEY_ID"), SecretAccessKey: env.must("AWS_SECRET_ACCESS_KEY"),
		SessionToken: env.get("AWS_SESSION_TOKEN"),
	}
	o := sns.Options{From: env.get("AWS_SNS_FROM"), Config: aws.Config{
		Region:      env.must("AWS_REGION"),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return key, nil }),
	}}
	if endpoint := env.get("AWS_ENDPOINT_URL_SNS"); endpoint != "" {
		o.Config.BaseEndpoint = &endpoint
	}
	return sns.New(o)
}

// openGateway returns a sender that makes an HTTP request for each SMS: POST if there is a body, and
// otherwise GET. The URL and the body are templates of package gateway.
func openGateway(env *environment, url string) (sms.Sender, error) {
	o := gateway.Options{
		URL: url, Body: env.get("THREEPID_GATEWAY_BODY"), From: env.get("THREEPID_GATEWAY_FROM"),
		User: env.get("THREEPID_GATEWAY_USER"), Password: env.get("THREEPID_GATEWAY_PASSWORD"),
		ReceiptURL: env.receiptURL, ReceiptSecret: env.get("THREEPID_GATEWAY_RECEIPT_SECRET"),
	}
	switch {
	case strings.HasPrefix(strings.TrimSpace(o.Body), "{"):
		o.Header = http.Header{"Content-Type": {"application/json"}}
	case o.Body != "":
		o.Header = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
	}
	return gateway.New(o)
}

// senders is the sender for the providers in -sms, with what else they need.
type senders struct {
	sms.Sender

	health   *compose.Health           // nil unless there are several providers
	receipts map[string]receipt.Reader // by path
}

// openSender opens the providers in -sms; several are combined with failover. receipts is the public
// URL for their delivery receipts; it may be empty.
func openSender(list, receipts string, getenv func(string) string, stdout io.Writer, logger *slog.Logger) (senders, error) {
	var opened []compose.Provider
	var errs []error
	all := senders{receipts: make(map[string]receipt.Reader)}
	known := providers(stdout)
	for _, name := range splitProviders(list, known) {
		short, _, _ := strings.Cut(name, ":")
		env := &environment{getenv: getenv}
		if receipts != "" {
			env.receiptURL = strings.TrimRight(receipts, "/") + receiptsPath + short
		}
		sender, reader, err := openProvider(name, known, env)
		errs = append(errs, err)
		opened = append(opened, compose.Provider{Name: short, Sender: sender})
		if reader != nil {
			all.receipts[receiptsPath+short] = reader
		}
	}
	err := errors.Join(errs...)
	switch {
	case err == nil && receipts != "" && len(all.receipts) == 0:
		err = errors.New("-receipts-url: no provider of -sms has delivery receipts")
	case err == nil && len(opened) == 1:
		all.Sender = opened[0].Sender
	case err == nil:
		all.health = compose.NewHealth(compose.HealthOptions{Logger: logger})
		all.Sender, err = compose.NewFailover(compose.FailoverOptions{Logger: logger, Health: all.health}, opened...)
	}
	return all, err
}

// receiptsPath is the path below which each provider posts its delivery receipts.
const receiptsPath = "/receipts/"

// withToken adds a token to a URL. It returns an empty URL unchanged.
func withToken(address, token string) string {
	if address == "" {
		return ""
	}
	return address + "?token=" + url.QueryEscape(token)
}

func openProvider(name string, known []provider, env *environment) (sms.Sender, receipt.Reader, error) {
	i := slices.IndexFunc(known, func(p provider) bool { return p.named(name) })
	if i < 0 {
		short, _, _ := strings.Cut(name, ":") // the URL may contain a password
		return nil, nil, fmt.Errorf("-sms: unknown provider %q; use %s", short, usage(known))
	}
	_, rest, _ := strings.Cut(name, ":")
	sender, err := known[i].open(env, rest)
	var reader receipt.Reader
	if env.receiptURL != "" && known[i].receipts != nil {
		var readerErr error
		reader, readerErr = known[i].receipts(env)
		err = errors.Join(err, readerErr)
	}
	if len(env.missing) > 0 {
		return nil, nil, fmt.Errorf("-sms: %s: set %s in the environment", known[i].name, strings.Join(env.missing, " and "))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("-sms: %w", err)
	}
	return sender, reader, nil
}

// named reports whether name is the provider's name, followed by a colon if the provider needs a URL.
func (p provider) named(name string) bool {
	if p.url {
		return strings.HasPrefix(name, p.name+":")
	}
	return name == p.name
}

// usage lists the providers for help and error texts.
func usage(known []provider) string {
	var names []string
	for _, p := range known {
		if p.url {
			names = append(names, p.name+":URL")
		} else {
			names = append(names, p.name)
		}
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// splitProviders splits a list at its commas. A comma after a URL that no provider's name follows is
// part of the URL.
func splitProviders(list string, known []provider) []string {
	var names []string
	for part := range strings.SplitSeq(list, ",") {
		begins := slices.ContainsFunc(known, func(p provider) bool { return p.named(strings.TrimSpace(part)) })
		if last := len(names) - 1; last >= 0 && !begins && strings.Contains(names[last], ":") {
			names[last] += "," + part
			continue
		}
		names = append(names, strings.TrimSpace(part))
	}
	return names
}

// environment reads environment variables and records the names of required ones that are missing.
type environment struct {
	getenv  func(string) string
	missing []string

	receiptURL string // for the provider's delivery receipts; may be empty
}

func (e *environment) get(name string) string { return e.getenv(name) }

// must returns the value of a required variable.
func (e *environment) must(name string) string {
	value := e.get(name)
	if value == "" {
		e.missing = append(e.missing, name)
	}
	return value
}

// either returns the values of two variables, at least one of which is required.
func (e *environment) either(one, other string) (string, string) {
	if cmp.Or(e.get(one), e.get(other)) == "" {
		e.missing = append(e.missing, one+" or "+other)
	}
	return e.get(one), e.get(other)
}
