package infobip

import "example.com/threepid/sms/httpsend"

// Infobip's groups of statuses, and its group of errors about the person's telephone.
const (
	groupPending   = 1
	groupDelivered = 3

	handsetErrors = 1
)

// classOfName returns what a status means for a message, if it is known:
// https://www.infobip.com/docs/essentials/response-status-and-error-codes.
func classOfName(name string) (class httpsend.Class, known bool) {
	switch name {
	case "PENDING_ACCEPTED", "PENDING_ENROUTE", "PENDING_WAITING_DELIVERY", "DELIVERED_TO_OPERATOR", "DELIVERED_TO_HANDSET":
		return httpsend.Accepted, true
	case "REJECTED_PREFIX_MISSING", "REJECTED_DND", "REJECTED_DESTINATION", "REJECTED_INVALID_DESTINATION",
		"REJECTED_DESTINATION_BLOCKLISTED", "SIGNALS_BLOCKED":
		return httpsend.Rejected, true
	case "REJECTED_FLOODING_FILTER", "REJECTED_SYSTEM_ERROR", "EXPIRED_EXPIRED",
		"UNDELIVERABLE_NOT_DELIVERED", "UNDELIVERABLE_NOT_SENT", "UNDELIVERABLE_REJECTED_OPERATOR", "UNDELIVERABLE_REJECTED_PLATFORM":
		return httpsend.Temporary, true
	case "EXPIRED_DLR_UNKNOWN", // sent, without a delivery report
		"REJECTED_DUPLICATE_MESSAGE_ID": // an earlier try had this ID; whether it was accepted is not known
		return httpsend.Uncertain, true
	case "REJECTED_NETWORK", "REJECTED_SOURCE", "REJECTED_NOT_ENOUGH_CREDITS", "REJECTED_SENDER", "REJECTED_PREPAID_PACKAGE_EXPIRED",
		"REJECTED_DESTINATION_NOT_REGISTERED", "REJECTED_ROUTE_NOT_AVAILABLE", "REJECTED_INVALID_UDH", "REJECTED_MESSAGE_TOO_LONG",
		"MISSING_TO":
		return httpsend.Misconfigured, true
	default:
		return 0, false
	}
}

// classOf uses the error's permanent flag if the status is unknown or says only that the
// message failed.
func classOf(s status, f failure) httpsend.Class {
	class, known := classOfName(s.Name)
	accepted := known && class == httpsend.Accepted || !known && (s.GroupID == groupPending || s.GroupID == groupDelivered)
	switch {
	case accepted:
		return httpsend.Accepted
	case f.Permanent && f.GroupID == handsetErrors && (!known || class == httpsend.Temporary):
		return httpsend.Rejected
	case f.Permanent && !known:
		return httpsend.Misconfigured
	case known:
		return class
	default:
		return httpsend.Temporary
	}
}
