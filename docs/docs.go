// Package docs has the OpenAPI description of the endpoints, for hosts that serve
// one and for tests.
package docs

import _ "embed"

//go:embed openapi.yaml
var openAPI string

// OpenAPI returns openapi.yaml: OpenAPI 3.1, in YAML. Its paths stand below
// Options.BasePath, which is a variable of its server.
func OpenAPI() string { return openAPI }
