package vonage

import "example.com/threepid/sms/httpsend"

// classOf returns what a status of Vonage means for a message, if it is known:
// https://developer.vonage.com/en/messaging/sms/guides/troubleshooting-sms.
func classOf(status int) (class httpsend.Class, known bool) {
	switch status {
	case 0:
		return httpsend.Accepted, true
	case 6, 7, 33:
		return httpsend.Rejected, true
	case 1, 5, 10:
		return httpsend.Temporary, true
	case 2, 3, 4, 8, 9, 11, 12, 14, 15, 16, 17, 18, 19, 20, 22, 23, 29, 32, 34:
		return httpsend.Misconfigured, true
	default:
		return 0, false
	}
}
