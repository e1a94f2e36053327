// Package hydra pins Ory Hydra, a login server that the tests beside it build
// and run. It is a module of its own as its dependencies are hundreds, and one is
// replaced.
package hydra
