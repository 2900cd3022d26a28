package plivo

import "example.com/threepid/sms/httpsend"

// classOf returns what an error code of Plivo means for a message, if it is known:
// https://www.plivo.com/docs/messaging/troubleshooting/error-codes.
func classOf(code int) (class httpsend.Class, known bool) {
	switch code {
	case 50, 70, 100, 200:
		return httpsend.Rejected, true
	case 20, 80, 300, 1000:
		return httpsend.Temporary, true
	case 10, 30, 40, 60, 90, 110, 450, 900:
		return httpsend.Misconfigured, true
	default:
		return 0, false
	}
}
