package sms

// Delivery is what a provider reports about a message after it has accepted it.
type Delivery string

// The deliveries.
const (
	Delivered       Delivery = "delivered" // to the phone
	Undelivered     Delivery = "failed"    // for good
	Delayed         Delivery = "delayed"   // failed for now: the provider is still trying
	DeliveryUnknown Delivery = "unknown"   // the provider does not know, or does not say
)

// Receipt is a provider's delivery receipt for a message. Package sms/receipt reads receipts
// from the requests that providers make.
type Receipt struct {
	// Provider is the short name of the provider, such as "twilio". It matters only if no SMS
	// has the MessageID: then the receipt is counted under this name.
	Provider string

	// MessageID is the ID that the Sender reported for the message: see Report.
	MessageID string

	Status Delivery

	// Reason is the provider's code for the status, such as "30005". It may be empty. A Reason with
	// seven or more digits in a row is ignored, because it may be a phone number.
	Reason string
}
