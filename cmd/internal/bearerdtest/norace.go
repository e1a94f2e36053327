//go:build !race

package bearerdtest

// Race tells whether the race detector watches the tests, and the program with them.
const Race = false
