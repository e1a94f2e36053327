package testing

import "internal/syscall/windows"

// Wine 8 has no deletion by FileDispositionInformationEx and does not say so in a
// way that os.RemoveAll understands. With this, which .ci/run lays over the tests'
// package testing alone, it takes the way of older Windows.
func init() { windows.TestDeleteatFallback = true }
