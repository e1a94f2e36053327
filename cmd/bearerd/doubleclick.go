package main

import (
	"fmt"
	"io"
	"os"

	"github.com/bearerd/bearerd/cmd/internal/config"
	"github.com/bearerd/bearerd/cmd/internal/healthcheck"
	"github.com/bearerd/bearerd/cmd/internal/setup"
)

// runDoubleClicked is for a program that was started by a double click, and whose
// window is gone when it ends: it sets bearerd up, or serves where that is done, or
// opens the status page where it runs. The window stays until it can have been read.
func runDoubleClicked(environ []string, signals <-chan os.Signal, stdin io.Reader, stdout, stderr io.Writer) int {
	code := doubleClicked(environ, signals, stdout, stderr)
	fmt.Fprintln(stdout, "\nPress Enter to close this window.")
	read := make(chan struct{})
	go func() { // ends with the process, where a signal comes first
		_, _ = stdin.Read(make([]byte, 1)) // which a console gives when its line is ended
		close(read)
	}()
	select {
	case <-read:
	case <-signals:
	}
	return code
}

func doubleClicked(environ []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	from := config.Sources{Environ: environ}
	saved, err := config.SavedFile()
	if err == nil {
		if _, err = os.Stat(saved); err == nil {
			from.Saved = saved
		}
	}
	switch {
	case err != nil && len(from.Given()) == 0:
		return runSetup(setup.Answers{}, environ, signals, stdout, stderr)
	case healthcheck.Run(from, 0, signals, io.Discard) == nil:
		admin, _, _ := from.AdminListen(signals)
		fmt.Fprintln(stdout, "bearerd runs. Its status page: http://"+admin+"/")
		_ = setup.Browse("http://" + admin + "/") // its address is shown
		return exitOK
	}
	return runServe(from, signals, stderr)
}
