// Package threepid verifies phone numbers on an existing Gin server. It mounts the
// MSISDN requestToken endpoints of the Matrix client-server API, and submitToken, which
// takes the code that was sent.
//
//	st, err := sqlite.Open("threepid.db")
//	…
//	plugin, err := threepid.Register(router, st, console.New(os.Stdout), threepid.Options{})
//	…
//	defer plugin.Close()
//
// A client posts a number to requestToken and receives an SMS with a code. It posts the code to
// submitToken. From then on, [Plugin.Validated] and [Plugin.Redeem] confirm to the host that a
// client with the session's sid and client_secret holds the number. With Options.Authenticate the
// plugin also serves the list of an account's numbers.
//
// To go to production, set Options.PublicURL, Options.Policy.AllowCountries and
// Options.Messages.Brand, choose a provider from the packages below sms, and call Gin's
// SetTrustedProxies with your proxies. One SQLite file serves one node. Several nodes share
// a PostgreSQL or MySQL database through package store/gormstore.
//
// A host that has its own endpoints, or also keeps email addresses, uses [Plugin.RequestToken],
// [Plugin.SubmitToken], [Plugin.AddNumber] and the other Go calls instead of the endpoints. An
// operator calls [Plugin.Blocks], [Plugin.Unblock] and [Plugin.ReleaseNumber].
//
// Requests and responses are those of the Matrix specification v1.19. The Endpoint
// constants name the clauses, and docs/openapi.yaml describes each response.
//
// # Packages
//
// Package store defines the interface of a store, and its subpackages implement it: sqlite,
// gormstore and, for tests, memstore. Package sms defines how SMS are sent; it has a subpackage for
// each provider, compose to combine several, gateway and webhook for all other services, and
// console and smstest for development. Package delegate is for services that send and check the
// codes themselves. Package limits defines the rate limits, the guard against SMS pumping, and the
// policy. Package observe defines the events for metrics and audits.
//
// [Plugin.MountIdentity] mounts an identity service, to which a homeserver such as Synapse can
// delegate the validation of phone numbers.
package threepid
