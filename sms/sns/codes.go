package sns

import (
	"strings"

	"example.com/threepid/sms/httpsend"
)

// classOf is what an error of Publish means for a message, if its code is known:
// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors
// and https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html. Of a parameter
// that is wrong the words say which.
func classOf(code, words string) (class httpsend.Class, known bool) {
	switch code {
	case "OptedOut":
		return httpsend.Rejected, true
	case "InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid":
		if strings.Contains(words, "PhoneNumber") {
			return httpsend.Rejected, true
		}
		return httpsend.Misconfigured, true
	case "Throttled", "Throttling", "ThrottlingException", "KMSThrottling", "RequestThrottled", "TooManyRequestsException",
		"InternalError", "InternalFailure", "ServiceUnavailable":
		return httpsend.Temporary, true
	case "RequestAbortedException", "RequestTimeoutException":
		return httpsend.Uncertain, true
	case "AuthorizationError", "AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired", // permissions
		"ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId", "InvalidSecurity",
		"MissingAuthenticationToken", "RequestExpired", "SignatureDoesNotMatch", "UnrecognizedClientException", // credentials
		"KMSAccessDenied", "KMSDisabled", "KMSInvalidState", "KMSNotFound", "KMSOptInRequired",
		"EndpointDisabled", "NotFound", "PlatformApplicationDisabled", "UserError", // what is published to
		"InvalidAction", "InvalidParameterCombination", "InvalidQueryParameter", "MalformedQueryString", "MissingAction",
		"MissingParameter", "ValidationError", "ValidationException": // the request
		return httpsend.Misconfigured, true
	default:
		return 0, false
	}
}
