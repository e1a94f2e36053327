package logs

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/proxy"
)

// A time-out of the response header is not one of connecting, though both are
// errors of the same kind.
func TestAccessLogOfUpstreamErrors(t *testing.T) {
	for _, test := range []struct {
		ex   proxy.Exchange
		want string
	}{
		{proxy.Exchange{Error: proxy.UpstreamTimeout, Cause: os.ErrDeadlineExceeded}, "no response header within BEARERD_RESPONSE_HEADER_TIMEOUT"},
		{proxy.Exchange{Error: proxy.UpstreamUnreachable, Cause: os.ErrDeadlineExceeded}, "connecting took too long"},
		{proxy.Exchange{Error: proxy.UpstreamUnreachable, Cause: io.EOF}, "the server closed the connection"},
		{proxy.Exchange{Error: proxy.UpstreamUnreachable, Cause: &proxy.UpstreamError{What: "upstream reset it"}}, "upstream reset it"},
		{proxy.Exchange{Outcome: proxy.ClientClosed}, "the client closed the connection, or only its sending side, before it had the whole answer"},
		{proxy.Exchange{Error: proxy.HTTP11Required}, "the client speaks HTTP/2 with prior knowledge, and bearerd HTTP/1.1 on this port"},
	} {
		var out bytes.Buffer
		Access{Logger: NewLogger(&out, false, "info", "json"), Mode: "all"}.Log(&test.ex)
		if !strings.Contains(out.String(), `"cause":"`+test.want+`"`) {
			t.Errorf("got %s, want cause %q", &out, test.want)
		}
	}
}

// The prompt has written lines before the log is opened, and those may still be
// on their way. (It takes the race detector.)
func TestLogOpenedWhileLinesGoOut(t *testing.T) {
	asked, gate := make(chan struct{}), make(chan struct{})
	lines := &output.Lines{W: bearerdtest.WriterFunc(func(p []byte) (int, error) {
		asked <- struct{}{}
		<-gate
		return len(p), nil
	})}
	lines.Write([]byte("Password: \n"))
	<-asked
	close(gate) // the line's end and Open run at once
	l := Open(lines, "info", "json")
	go func() { <-asked }()
	l.Events.Info().Msg("serving")
	if !lines.Flush(10 * time.Second) {
		t.Error("the lines did not go out")
	}
}
