package logs

import (
	"github.com/rs/zerolog"

	"github.com/bearerd/bearerd/cmd/internal/advice"
	"github.com/bearerd/bearerd/cmd/internal/display"
	"github.com/bearerd/bearerd/proxy"
)

// Access logs requests as ACCESS_LOG says.
type Access struct {
	Logger  zerolog.Logger
	Mode    string
	Sparing *sampler // as in Log
}

// Log logs a request that ended, unless a leaves it out.
func (a Access) Log(ex *proxy.Exchange) {
	failed := ex.Status >= 400 || ex.Outcome != proxy.Completed
	if a.Mode == "off" || a.Mode == "errors" && !failed {
		return
	}
	if a.Logger.GetLevel() > zerolog.InfoLevel || ex.Error.Fault() == proxy.FaultCaller && !a.Sparing.allow(string(ex.Error)) {
		return
	}
	e := a.Logger.Info()
	e.Str("method", ex.Method).
		Str("path", ex.Path).
		Int("status", ex.Status).
		Float64("duration_ms", display.Milliseconds(ex.Duration)).
		Int64("bytes_in", ex.BytesIn).
		Int64("bytes_out", ex.BytesOut).
		Uint64("generation", ex.Generation).
		Bool("replayed", ex.Unauthorized == proxy.Replayed || ex.Unauthorized == proxy.TooYoung)
	if ex.Attempts > 1 {
		e.Int("attempts", ex.Attempts)
	}
	if ex.Outcome != proxy.Completed {
		e.Str("outcome", string(ex.Outcome))
	}
	if ex.Error != "" {
		e.Str("code", string(ex.Error))
	}
	switch {
	case ex.Outcome == proxy.ClientClosed:
		e.Str("cause", advice.ClientClosed)
	case ex.Error == proxy.HTTP11Required:
		e.Str("cause", sayHTTP2)
	}
	if ex.Cause != nil {
		e.Stringer("cause", advice.FailureOfUpstream(ex))
	}
	e.Msg("request")
}

const sayHTTP2 = "the client speaks HTTP/2 with prior knowledge, and bearerd HTTP/1.1 on this port"
