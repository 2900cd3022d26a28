package wire

import (
	"net/url"
	"unicode/utf8"

	"example.com/threepid/internal/verify"
	"example.com/threepid/store"
)

// RequestToken reads the body of a requestToken request: Matrix client-server
// API v1.19, POST /account/3pid/msisdn/requestToken and its like.
//
// With legacy, id_server does not require id_access_token, which clients of r0.5 and older do
// not send. The token is never used: an identity server knows the node by the node's own token.
func RequestToken(body []byte, purpose store.Purpose, legacy bool) (verify.Request, error) {
	o, err := parseObject(body)
	if err != nil {
		return verify.Request{}, err
	}
	if err := o.require("client_secret", "country", "phone_number", "send_attempt"); err != nil {
		return verify.Request{}, err
	}
	r := verify.Request{Purpose: purpose, HasNextLink: o.has("next_link")}
	for _, field := range []struct {
		name string
		into *string
	}{
		{"client_secret", &r.ClientSecret},
		{"country", &r.Country},
		{"phone_number", &r.PhoneNumber},
		{"next_link", &r.NextLink},
		{"id_server", &r.IDServer},
	} {
		if purpose == store.PurposeIdentity && field.name == "id_server" {
			continue
		}
		if *field.into, err = o.text(field.name); err != nil {
			return verify.Request{}, err
		}
	}
	if r.Attempt, err = o.integer("send_attempt"); err != nil {
		return verify.Request{}, err
	}
	if purpose == store.PurposeIdentity {
		return r, nil // this node is the identity server
	}
	return r, checkIdentityServer(o, legacy)
}

// checkIdentityServer checks the fields that name an identity server.
func checkIdentityServer(o object, legacy bool) error {
	accessToken, err := o.text("id_access_token")
	if err != nil {
		return err
	}
	if o.has("id_server") && accessToken == "" && !legacy {
		return verify.Errorf(verify.MissingParam, "Missing: id_access_token, which id_server requires")
	}
	return nil
}

// Submission reads the JSON body of a submitToken request.
func Submission(body []byte) (verify.Submission, error) {
	o, err := parseObject(body)
	if err != nil {
		return verify.Submission{}, err
	}
	values := url.Values{}
	for _, name := range submissionFields() {
		value, err := o.text(name)
		if err != nil {
			return verify.Submission{}, err
		}
		values.Set(name, value)
	}
	return submission(values)
}

// SubmissionForm reads the form-encoded body of a submitToken request, or the
// query of one.
func SubmissionForm(form []byte) (verify.Submission, error) {
	values, err := url.ParseQuery(string(form))
	if err != nil {
		return verify.Submission{}, verify.Errorf(verify.InvalidParam, "The parameters are not form-encoded")
	}
	return submission(values)
}

// SessionQuery reads the query of getValidated3pid.
func SessionQuery(query string) (sid, clientSecret string, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", "", verify.Errorf(verify.InvalidParam, "The parameters are not form-encoded")
	}
	names := []string{"sid", "client_secret"}
	if err := once(values, names); err != nil {
		return "", "", err
	}
	return values.Get("sid"), values.Get("client_secret"), nil
}

// submission reads the parameters. An empty one counts as absent, so that pressing the button
// too early costs no try. A duplicate is refused, because two parsers may choose different
// values.
func submission(values url.Values) (verify.Submission, error) {
	if err := once(values, submissionFields()); err != nil {
		return verify.Submission{}, err
	}
	return verify.Submission{
		SID:          values.Get("sid"),
		ClientSecret: values.Get("client_secret"),
		Token:        values.Get("token"),
	}, nil
}

// once returns an error unless each parameter is there exactly once and is not empty.
func once(values url.Values, names []string) error {
	var missing []string
	for _, name := range names {
		if len(values[name]) > 1 || !utf8.ValidString(values.Get(name)) {
			return verify.Errorf(verify.InvalidParam, "%s must be given once, in UTF-8", name)
		}
		if values.Get(name) == "" {
			missing = append(missing, name)
		}
	}
	return errMissing(missing)
}

func submissionFields() []string { return []string{"sid", "client_secret", "token"} }

// Addition reads the body of POST /account/3pid/add. Other fields, such as "auth", are for the
// host's authentication.
func Addition(body []byte) (a verify.Addition, err error) {
	err = texts(body, []string{"sid", "client_secret"}, &a.SID, &a.ClientSecret)
	return a, err
}

// LegacyAddition reads the body of the deprecated POST /account/3pid, as clients of the
// client-server API r0.5 and older send it: Addition within three_pid_creds. As
// on requestToken, the identity server that they name is ignored, and so is "bind": no
// number is bound to an identity server here.
func LegacyAddition(body []byte) (a verify.Addition, err error) {
	o, err := parseObject(body)
	if err != nil {
		return a, err
	}
	const field = "three_pid_creds"
	if err := o.require(field); err != nil {
		return a, err
	}
	if _, err := parseObject(o[field]); err != nil {
		return a, verify.Errorf(verify.InvalidParam, field+" must be an object that has no field twice")
	}
	return Addition(o[field])
}

// Removal reads the body of POST /account/3pid/delete. id_server is not used: no
// number is bound to an identity server here.
func Removal(body []byte) (r verify.Removal, err error) {
	err = texts(body, []string{"medium", "address"}, &r.Medium, &r.Address)
	return r, err
}

// texts reads the fields of a body, all of them strings and required.
func texts(body []byte, names []string, into ...*string) error {
	o, err := parseObject(body)
	if err != nil {
		return err
	}
	if err := o.require(names...); err != nil {
		return err
	}
	for i, name := range names {
		if *into[i], err = o.text(name); err != nil {
			return err
		}
	}
	return nil
}
