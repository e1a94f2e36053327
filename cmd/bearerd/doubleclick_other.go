//go:build !windows

package main

// ownsConsole: elsewhere a double click opens no terminal.
func ownsConsole() bool { return false }
