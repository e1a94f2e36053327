package advice

import (
	"fmt"
	"time"
)

// ClockWrong is the clock skew from which on people are told of it.
const ClockWrong = 5 * time.Second

// ClockRemedy is for a clock that is wrong by that much.
const ClockRemedy = "set this machine's clock, by NTP say, for the sake of other programs: bearerd counts by the login server's"

// ClockSays tells of the clock skew, local time minus the login server's.
func ClockSays(skew time.Duration) string {
	side := "ahead of"
	switch {
	case skew == 0:
		return "this machine's clock agrees with the login server's"
	case skew < 0:
		side = "behind"
	}
	return fmt.Sprintf("this machine's clock is %v %s the login server's", skew.Abs(), side)
}
