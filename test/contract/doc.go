// Package contract holds docs/openapi.yaml against what the plugin does: its tests
// run all of internal/plugintest and look at each request and its answer. It is a
// module of its own so that the validator is no dependency of the plugin.
package contract
