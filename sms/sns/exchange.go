package sns

import (
	"bytes"
	"io"
	"net/http"

	"example.com/threepid/sms/httpsend"
)

// exchange carries one request for the SDK as other providers' are carried, and
// remembers what became of it: of an error the SDK hands on less when time is over
// at that moment, and it reads answers without end.
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
