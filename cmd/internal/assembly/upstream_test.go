package assembly

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bearerd/bearerd/proxy"
	"github.com/bearerd/bearerd/tokens"
)

// What a client is told for want of a token: its code, and when to come again.
func TestFailuresAsTheProxyTakesThem(t *testing.T) {
	unavailable := func(f tokens.Failure) error {
		return fmt.Errorf("wrapped: %w", &tokens.Unavailable{Failure: f, RetryAfter: 7 * time.Second})
	}
	for name, test := range map[string]struct {
		err  error
		want proxy.Error
	}{
		"waited too long": {tokens.ErrWait, proxy.Error{Code: proxy.LoginTimeout, RetryAfter: time.Second}},
		"refused":         {unavailable(tokens.Failure{Kind: tokens.Rejected}), proxy.Error{Code: proxy.LoginRejected}},
		"stopped":         {unavailable(tokens.Failure{Kind: tokens.Transient, Stopped: true}), proxy.Error{Code: proxy.LoginRejected}},
		"throttled":       {unavailable(tokens.Failure{Kind: tokens.Throttled}), proxy.Error{Code: proxy.LoginUnavailable, RetryAfter: 7 * time.Second}},
		"failed":          {unavailable(tokens.Failure{Kind: tokens.Transient}), proxy.Error{Code: proxy.LoginUnavailable, RetryAfter: 7 * time.Second}},
	} {
		_, err := ProxyToken(nil, test.err)
		if got, ok := errors.AsType[*proxy.Error](err); !ok || *got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, err, test.want)
		}
	}
	other := errors.New("bearerd stops")
	if _, err := ProxyToken(nil, other); !errors.Is(err, other) {
		t.Errorf("got %v, want %v as it is", err, other)
	}
}
