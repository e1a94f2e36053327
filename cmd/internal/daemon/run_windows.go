package daemon

import (
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"time"

	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"

	"github.com/bearerd/bearerd/cmd/internal/logfile"
)

// Run is what the system starts. It returns when the service has ended, with its
// exit code.
func Run(w Which, _ <-chan os.Signal, serve Serve) (code int, err error) {
	// A service hears of the logoff of every user, which Go tells as a signal.
	signal.Reset()
	if w.User {
		return runAtLogon(w, serve)
	}
	// Before anything that may take long or fail: who does not answer the service
	// control manager in time is given up (error 1053).
	m := &machine{name: w.Name, serve: serve}
	if err := svc.Run(w.Name, m); err != nil {
		return 1, err
	}
	return m.code, nil
}

// machine is bearerd as the service control manager sees it.
type machine struct {
	name  string
	serve Serve
	code  int
}

// Execute serves until the service control manager ends it, or bearerd itself. Bad
// settings are no failure for the manager: it would start it again and again.
func (m *machine) Execute(_ []string, asks <-chan svc.ChangeRequest, tell chan<- svc.Status) (ownCode bool, code uint32) {
	signals := make(chan os.Signal, 4)
	ended := make(chan int, 1)
	go func() {
		log, done := openLog(m.name)
		ended <- m.serve(placesOf(m.name).settings, signals, log)
		done()
	}()
	tell <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown}
	var tick <-chan time.Time
	stopping := svc.Status{State: svc.StopPending, WaitHint: 10_000}
	for {
		select {
		case m.code = <-ended:
			if endsForGood(m.code) {
				return false, 0
			}
			return true, uint32(m.code)
		case <-tick:
			stopping.CheckPoint++ // it is still at work
			tell <- stopping
		case ask := <-asks:
			switch ask.Cmd {
			case svc.Interrogate:
				tell <- ask.CurrentStatus
			case svc.Stop, svc.Shutdown:
				if tick != nil {
					continue
				}
				ticker := time.NewTicker(time.Second)
				defer ticker.Stop()
				tick = ticker.C
				tell <- stopping
				signals <- os.Interrupt
			}
		}
	}
}

// openLog opens the log of a service of the machine: a file, and the Event Log.
// Neither can prevent a start: without both, nothing is written.
func openLog(name string) (log io.Writer, done func()) {
	out := events{tell: func(level, string) {}}
	folder := placesOf(name).logs
	keepCrash(folder)
	file, err := logfile.Open(filepath.Join(folder, logName))
	if err == nil {
		out.w = file
	}
	source, sourceErr := eventlog.Open(name)
	if sourceErr == nil {
		out.tell = func(l level, text string) {
			// An event may have 31,839 letters (ReportEvent).
			text = text[:min(len(text), 30_000)]
			switch l { // its level is its number too: EventCreate.exe has 1 to 1000
			case info:
				_ = source.Info(uint32(l), text)
			case warning:
				_ = source.Warning(uint32(l), text)
			default:
				_ = source.Error(uint32(l), text)
			}
		}
		if err != nil {
			out.tell(failure, "no log is written: "+err.Error())
		}
	}
	return out, func() {
		if file != nil {
			_ = file.Close()
		}
		if source != nil {
			_ = source.Close()
		}
	}
}

const (
	logName   = "bearerd.log"
	crashName = "crash.log"
)

// keepCrash has Go write what it says of a crash, where nobody sees standard
// error. The file stays open, and so the log cannot be it.
func keepCrash(folder string) {
	f, err := os.OpenFile(filepath.Join(folder, crashName), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err == nil {
		_ = debug.SetCrashOutput(f, debug.CrashOptions{})
		_ = f.Close() // it has a copy of its own
	}
}
