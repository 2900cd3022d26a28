// Package sns sends SMS through Amazon SNS,
// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html. It is a module of
// its own, so that other hosts do not depend on the AWS SDK.
//
// The API has no idempotency key for SMS. If a response is lost, the SMS may have been sent,
// and Send returns sms.ErrUncertain. The SDK's retries are therefore off: they repeat a request
// whose connection broke or whose response was a 500, which could send two SMS. Use
// compose.Retry, which repeats only a message that was certainly not sent.
package sns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/smithy-go"

	"example.com/threepid/sms"
	"example.com/threepid/sms/httpsend"
)

// The attributes of a message that the package sets:
// https://docs.aws.amazon.com/sns/latest/dg/sms_publish-to-phone.html.
const (
	attributeType        = "AWS.SNS.SMS.SMSType"
	attributeSender      = "AWS.SNS.SMS.SenderID"
	attributeOrigination = "AWS.MM.SMS.OriginationNumber"
)

var _ sms.Sender = (*Sender)(nil)

// Options configure a Sender.
type Options struct {
	// Config needs a Region in which SNS sends SMS, and Credentials with the permission
	// sns:Publish, as config.LoadDefaultConfig returns them. BaseEndpoint is for VPC
	// endpoints. HTTPClient and the retry settings are not used.
	Config aws.Config

	// From is an alphanumeric sender ID, or an origination number or short code of the
	// account. Defaults to what SNS selects.
	From string

	// Attributes are also set on each message, such as AWS.SNS.SMS.MaxPrice,
	// or AWS.MM.SMS.EntityId and AWS.MM.SMS.TemplateId for India. Defaults to none.
	Attributes map[string]string

	// Client sends the requests. Defaults to a client with a connection pool of its own.
	Client *http.Client
}

// Sender sends SMS through one account.
type Sender struct {
	from       string
	attributes map[string]types.MessageAttributeValue
	client     *http.Client
	api        *sns.Client
}

// New validates the options. Its errors contain no credential.
func New(o Options) (*Sender, error) {
	var err error
	if base := aws.ToString(o.Config.BaseEndpoint); base != "" {
		_, err = httpsend.BaseURL("sns", base, "")
	}
	err = errors.Join(err, httpsend.Require("sns", "Config.Region", o.Config.Region))
	if o.Config.Credentials == nil {
		err = errors.Join(err, errors.New("sns: Config.Credentials are missing"))
	}
	s := &Sender{from: o.From, client: httpsend.Client(o.Client), attributes: map[string]types.MessageAttributeValue{
		attributeType: attribute("Transactional"),
	}}
	for name, value := range o.Attributes {
		if name == "" || value == "" {
			err = errors.Join(err, errors.New("sns: Attributes has an empty name or value"))
		}
		s.attributes[name] = attribute(value)
	}
	if err != nil {
		return nil, err
	}
	s.api = sns.NewFromConfig(o.Config, func(api *sns.Options) {
		api.Retryer, api.RetryMaxAttempts = aws.NopRetryer{}, 1
	})
	return s, nil
}

// Send publishes the message.
func (s *Sender) Send(ctx context.Context, m sms.Message) error {
	sms.Report(ctx, sms.Result{Provider: "sns"})
	call := &exchange{client: s.client}
	out, err := s.api.Publish(ctx, &sns.PublishInput{
		PhoneNumber: &m.To, Message: &m.Text, MessageAttributes: s.attributesOf(m),
	}, func(api *sns.Options) { api.HTTPClient = call })
	switch {
	case call.err != nil:
		return call.err
	case !call.made && (isTimeout(err) || ctx.Err() != nil):
		return errors.New("sns: the time was over before there were credentials to sign the request")
	case !call.made:
		return fmt.Errorf("sns: the request cannot be created; check the credentials: %w", sms.ErrMisconfigured)
	case err == nil && aws.ToString(out.MessageId) != "":
		sms.Report(ctx, sms.Result{MessageID: aws.ToString(out.MessageId)})
		return nil
	default:
		return outcome(call.status, err)
	}
}

// attributesOf returns the attributes for the sender ID: numbers and names have one each.
func (s *Sender) attributesOf(m sms.Message) map[string]types.MessageAttributeValue {
	all := make(map[string]types.MessageAttributeValue, len(s.attributes)+1)
	for name, value := range s.attributes {
		all[name] = value
	}
	if from := cmp.Or(m.From, s.from); from != "" {
		name := attributeSender
		if strings.Trim(from, "+0123456789") == "" {
			name = attributeOrigination
		}
		all[name] = attribute(from)
	}
	return all
}

func attribute(value string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &value}
}

// outcome uses the error code, or the status if the code is unknown.
func outcome(status int, err error) error {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		class := httpsend.ClassifyStatus(status)
		if class == httpsend.Accepted {
			class = httpsend.Uncertain // a success without a message ID
		}
		return class.Error("sns: HTTP %d without an error code or a message's ID", status)
	}
	class, known := classOf(api.ErrorCode(), api.ErrorMessage())
	if !known {
		class = httpsend.ClassifyStatus(status)
		return class.Error("sns: HTTP %d, error %s", status, word(api.ErrorCode()))
	}
	return class.Error("sns: HTTP %d, error %s: see https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors",
		status, word(api.ErrorCode()))
}

// word returns a code that AWS uses, and nothing else that a response may contain.
func word(code string) string {
	const most = 64
	foreign := func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') }
	if code == "" || len(code) > most || strings.ContainsFunc(code, foreign) {
		return "unknown"
	}
	return code
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
