//go:build unix && race

package main

// buildFlags makes the tested program watch for races when its tests do.
var buildFlags = []string{"-race"}
