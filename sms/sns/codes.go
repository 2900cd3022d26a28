package sns

import (
	"strings"

	"example.com/threepid/internal/httpcall"
)

// classOf is what an error of Publish means for a message, if its code is known:
// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html#API_Publish_Errors
// and https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html. Of a parameter
// that is wrong the words say which.
func classOf(code, words string) (class httpcall.Class, known bool) {
	switch code {
	case "OptedOut":
		return httpcall.Rejected, true
	case "InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid":
		if strings.Contains(words, "PhoneNumber") {
			return httpcall.Rejected, true
		}
		return httpcall.Misconfigured, true
	case "Throttled", "Throttling", "ThrottlingException", "KMSThrottling", "RequestThrottled", "TooManyRequestsException",
		"InternalError", "InternalFailure", "ServiceUnavailable":
		return httpcall.Temporary, true
	case "RequestAbortedException", "RequestTimeoutException":
		return httpcall.Uncertain, true
	case "AuthorizationError", "AccessDenied", "AccessDeniedException", "NotAuthorized", "OptInRequired", // permissions
		"ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidClientTokenId", "InvalidSecurity",
		"MissingAuthenticationToken", "RequestExpired", "SignatureDoesNotMatch", "UnrecognizedClientException", // credentials
		"KMSAccessDenied", "KMSDisabled", "KMSInvalidState", "KMSNotFound", "KMSOptInRequired",
		"EndpointDisabled", "NotFound", "PlatformApplicationDisabled", "UserError", // what is published to
		"InvalidAction", "InvalidParameterCombination", "InvalidQueryParameter", "MalformedQueryString", "MissingAction",
		"MissingParameter", "ValidationError", "ValidationException": // the request
		return httpcall.Misconfigured, true
	default:
		return 0, false
	}
}
