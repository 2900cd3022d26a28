package sns

import (
	"bytes"
	"io"
	"net/http"

	"example.com/threepid/sms/httpsend"
)

// exchange sends one request of the SDK through package httpsend, and keeps its result: the
// SDK loses an error when the time is over at the same moment, and reads responses of any
// size.
type exchange struct {
	client *http.Client
	made   bool
	status int
	err    error
}

// Do implements aws.HTTPClient.
func (e *exchange) Do(req *http.Request) (*http.Response, error) {
	e.made = true
	answer, err := httpsend.Do(e.client, "sns", req)
	if e.err = err; err != nil {
		return nil, err
	}
	e.status = answer.Status
	return &http.Response{
		StatusCode: answer.Status, Header: http.Header{}, Request: req,
		Body: io.NopCloser(bytes.NewReader(answer.Body)), ContentLength: int64(len(answer.Body)),
	}, nil
}
