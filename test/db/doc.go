// Package db tests the stores and the plugin on database servers. It is a module of its own, so
// that others do not depend on the drivers. It contains only tests; CONTRIBUTING.md says how to run
// them.
package db
