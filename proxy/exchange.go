package proxy

import "time"

// Outcome is how a request ended.
type Outcome string

const (
	Completed    Outcome = "completed"     // an answer went out whole
	Aborted      Outcome = "aborted"       // upstream cut it short, and so did bearerd; or the program ended it
	ClientClosed Outcome = "client_closed" // the client left first
)

// Unauthorized is what became of a request whose token upstream refused.
type Unauthorized string

const (
	Replayed      Unauthorized = "replayed"       // sent again with a newer token, or with the same when that was ripe
	TooYoung      Unauthorized = "too_young"      // sent again with the token before
	Passed        Unauthorized = "passed"         // no newer token was to be had
	NotReplayable Unauthorized = "not_replayable" // there is one, but the body was gone
)

// Exchange is what is known of a request at its end. But for Cause it holds no
// secret.
type Exchange struct {
	Method     string
	Path       string // as it came, without the query; empty for a target that is no path
	UserAgent  string // as it came
	Status     int    // of the answer; 0: none was sent
	Outcome    Outcome
	Start      time.Time
	Duration   time.Duration
	TokenWait  time.Duration // how long it waited for its first token
	BytesIn    int64         // of the request body
	BytesOut   int64         // of the response body; not counted after an upgrade
	Generation uint64        // of the last token sent upstream; 0: none was
	Attempts   int           // how often upstream got the request, or may have
	Error      Code          // of the answer, where it is bearerd's own
	Cause      error         // of an upstream error. Its text may quote upstream: do not log it

	Unauthorized Unauthorized // empty: upstream refused no token
	Refused      bool         // the answer is upstream's refusal of a token
	// ShortLived says that upstream refused a token early once more, although each
	// login helps for a while: somebody else's logins may end this account's tokens.
	ShortLived bool
}
