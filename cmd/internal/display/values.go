package display

import (
	"fmt"
	"runtime"
	"time"
)

// Shortly is d to a tenth of a millisecond.
func Shortly(d time.Duration) string { return fmt.Sprintf("%.1f ms", Milliseconds(d)) }

// Milliseconds is d to the microsecond.
func Milliseconds(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// Seconds is d to the millisecond.
func Seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

// Platform is the system and the processor that this program was built for.
const Platform = runtime.GOOS + "/" + runtime.GOARCH
