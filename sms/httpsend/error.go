package httpsend

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
)

var errNoAnswer = errors.New("the request failed, or the response is not HTTP")

// printable returns the part of a transport's error that may be logged: about addresses,
// certificates and time. The rest can contain the URL with its keys, or quote a response
// that repeats the message.
func printable(err error) error {
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificate
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		return lookup
	}
	if connection, ok := errors.AsType[*net.OpError](err); ok {
		return connection
	}
	for _, known := range []error{
		context.DeadlineExceeded, context.Canceled, http.ErrSchemeMismatch, io.ErrUnexpectedEOF, io.EOF,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return os.ErrDeadlineExceeded
	}
	return errNoAnswer
}
