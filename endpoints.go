package threepid

// Endpoint is one of the paths that Register mounts below the base path.
type Endpoint string

// The endpoints, with their clause in https://spec.matrix.org/v1.19/client-server-api/.
// To add or register a number, no account may have it; to reset a password, an account must
// have the number. The last three are mounted if Options.Authenticate is set.
//
// EndpointSubmitToken is the submit_url of the sessions. Its clause is in
// https://spec.matrix.org/v1.19/identity-service-api/; the specification does not define the path.
const (
	EndpointRequestTokenAdd      Endpoint = "/account/3pid/msisdn/requestToken"     // #post_matrixclientv3account3pidmsisdnrequesttoken
	EndpointRequestTokenRegister Endpoint = "/register/msisdn/requestToken"         // #post_matrixclientv3registermsisdnrequesttoken
	EndpointRequestTokenPassword Endpoint = "/account/password/msisdn/requestToken" // #post_matrixclientv3accountpasswordmsisdnrequesttoken
	EndpointSubmitToken          Endpoint = "/account/3pid/msisdn/submitToken"      // #post_matrixidentityv2validatemsisdnsubmittoken

	EndpointListNumbers  Endpoint = "/account/3pid"        // #get_matrixclientv3account3pid
	EndpointAddNumber    Endpoint = "/account/3pid/add"    // #post_matrixclientv3account3pidadd
	EndpointDeleteNumber Endpoint = "/account/3pid/delete" // #post_matrixclientv3account3piddelete
)

func endpoints() []Endpoint {
	return append([]Endpoint{EndpointRequestTokenAdd, EndpointRequestTokenRegister, EndpointRequestTokenPassword, EndpointSubmitToken}, accountEndpoints()...)
}

func accountEndpoints() []Endpoint {
	return []Endpoint{EndpointListNumbers, EndpointAddNumber, EndpointDeleteNumber}
}
