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
// A client posts a number to requestToken and receives an SMS with a code. It posts the
// code to submitToken. From then on [Plugin.Validated] and [Plugin.Redeem] report to the
// host that the client which knows the session's sid and client_secret holds the number.
// With Options.Authenticate the plugin also serves the list of an account's numbers.
//
// To go to production, set Options.PublicURL, Options.Policy.AllowCountries and
// Options.Messages.Brand, choose a provider among the packages below sms, and tell Gin
// its proxies with SetTrustedProxies. One SQLite file serves one node. Several nodes share
// a PostgreSQL or MySQL database through package store/gormstore.
//
// A host that has endpoints of its own, or also keeps email addresses, calls
// [Plugin.RequestToken], [Plugin.SubmitToken], [Plugin.AddNumber] and the like instead of the
// endpoints. An operator calls [Plugin.Blocks], [Plugin.Unblock] and [Plugin.ReleaseNumber].
//
// Requests and responses are those of the Matrix specification v1.19. The Endpoint
// constants name the clauses, and docs/openapi.yaml describes each response.
//
// # Packages
//
// Package store defines what is stored, and its subpackages store it: sqlite, gormstore
// and, for tests, memstore. Package sms defines how SMS are sent; it has a subpackage for each
// provider, compose to combine several, gateway and webhook for all other services, and
// console and smstest for development. Package delegate is for services that send and check the
// codes themselves. Package limits has the rate limits, the guard against SMS pumping, and
// the policy. Package observe has the events for metrics and audits.
//
// A homeserver such as Synapse delegates to the identity service that [Plugin.MountIdentity]
// mounts.
package threepid
