package main

// Main is main, for tests that run it as a separate process.
func Main() { main() }

// OpenSender is openSender, for tests that pass their own environment.
var OpenSender = openSender

// OpenStore is openStore, for tests that fill a database before the example opens it.
var OpenStore = openStore
