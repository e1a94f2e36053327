package service

import (
	"github.com/bearerd/bearerd/metrics"
	"github.com/bearerd/bearerd/proxy"
)

// observeRequest counts a request that has ended.
func observeRequest(m *metrics.Metrics, ex *proxy.Exchange) {
	code := metrics.Code(ex.Status)
	switch ex.Outcome {
	case proxy.Aborted:
		code = metrics.Aborted
	case proxy.ClientClosed:
		code = metrics.ClientClosed
	}
	m.Attempts(ex.Attempts)
	m.Request(ex.Method, code, ex.Duration)
	if ex.TokenWait > 0 {
		m.TokenWait(ex.TokenWait)
	}
	if ex.Unauthorized != "" {
		m.Unauthorized(string(ex.Unauthorized))
	}
	switch {
	case ex.Error == "":
	case countsAsUpstreams(ex.Error):
		m.UpstreamError(string(ex.Error))
	default:
		m.Rejection(string(ex.Error))
	}
}

// countsAsUpstreams reports which of the two metrics of errors has code.
func countsAsUpstreams(code proxy.Code) bool { return code.Fault() == proxy.FaultUpstream }

// MetricsOptions has each code where observeRequest counts it.
func MetricsOptions(version string, state func() metrics.State) metrics.Options {
	o := metrics.Options{Version: version, State: state}
	for _, code := range proxy.Codes() {
		if countsAsUpstreams(code) {
			o.UpstreamErrorCodes = append(o.UpstreamErrorCodes, string(code))
		} else {
			o.RejectionCodes = append(o.RejectionCodes, string(code))
		}
	}
	return o
}

// state is what the metrics show of this moment.
func (s *Service) state() metrics.State {
	st := s.Manager.Status()
	return metrics.State{
		Generation:   st.Generation,
		Expiry:       st.Expiry,
		Lifetime:     st.Lifetime,
		Skew:         st.Skew,
		SkewKnown:    st.SkewKnown,
		Ready:        st.Ready() && !s.Stopping.Load(),
		LoginStopped: st.Stopped,
		NextLogin:    st.NextLogin,
		ReplayBuffer: s.proxy.ReplayBytes(),
		InFlight:     s.proxy.InFlight(),
		LinesLost:    s.log.Lost(),
		Shared:       s.shared != nil,
		SharedUp:     s.shared != nil && s.shared.Up(),
	}
}
