//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

// underNohup is set for a test that runs itself again under nohup.
const underNohup = "BEARERDTEST_UNDER_NOHUP"

func TestMain(m *testing.M) {
	if bareProxy() || askedElsewhere() || trampoline() {
		return
	}
	// Where whoever started the tests ignores SIGHUP, as nohup does, each bearerd
	// would too. With a handler here, programs that are started have the default.
	if _, meant := os.LookupEnv(underNohup); !meant {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	os.Exit(bearerdtest.Run(m))
}
