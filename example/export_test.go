package main

// Main is main, for tests that run it in a process of its own.
func Main() { main() }

// OpenSender is openSender, for tests that bring an environment of their own.
var OpenSender = openSender

// OpenStore is openStore, for tests that fill a database before the example opens it.
var OpenStore = openStore
