// Package twiliocode classifies the error codes of Twilio's APIs, for the packages
// sms/twilio and delegate/twilio.
package twiliocode

import "example.com/threepid/sms/httpsend"

// Classify returns what an error code of Twilio's means for a message, if the code is
// known: https://www.twilio.com/docs/api/errors. docs/PROVIDERS.md gives the reasons.
func Classify(code int) (class httpsend.Class, known bool) {
	switch code {
	case 21211, 21214, 21217, 21265, 21268, 21610, 21614, 21635, // when it is requested
		30004, 30005, 30006, 30450, // when it is delivered
		60205, 60410: // Verify
		return httpsend.Rejected, true
	case 14107, 20429, 20500, 20503, 21611, 30001, 30003, 30008, 30022, 30023, 30410, 60202, 60203, 60212:
		return httpsend.Temporary, true
	case 20003, 20005, 20403, 20404, // credentials and account
		21212, 21266, 21408, 21601, 21602, 21603, 21604, 21605, 21606, 21607, 21608, 21612, 21613, 21616, 21617, 21618, 21619,
		21657, 21659, 21660, 21661, 21701, 21703, 21704, 21705, // sender, text, permissions
		30002, 30007, 30024, 30032, 30034, 30042, 63038,
		60200, 60220, 60223, 60238, 60605: // Verify
		return httpsend.Misconfigured, true
	default:
		return 0, false
	}
}
