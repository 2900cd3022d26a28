package main

// Main is main, for tests that run it in a process of its own.
func Main() { main() }
