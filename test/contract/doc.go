// Package contract compares the plugin with docs/openapi.yaml: its tests run all of
// internal/plugintest and check each request and response. It is a module of its own, so that the
// plugin does not depend on the validator.
package contract
