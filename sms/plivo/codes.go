package plivo

import "example.com/threepid/internal/httpcall"

// classOf is what an error code of Plivo's means for a message, if it is known:
// https://www.plivo.com/docs/messaging/troubleshooting/error-codes.
func classOf(code int) (class httpcall.Class, known bool) {
	switch code {
	case 50, 70, 100, 200:
		return httpcall.Rejected, true
	case 20, 80, 300, 1000:
		return httpcall.Temporary, true
	case 10, 30, 40, 60, 90, 110, 450, 900:
		return httpcall.Misconfigured, true
	default:
		return 0, false
	}
}
