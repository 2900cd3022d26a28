// Package db runs the suites of the stores and of the plugin on database
// servers. It is a module of its own to keep their drivers out of the others,
// and has nothing but tests; CONTRIBUTING.md says how to run them.
package db
