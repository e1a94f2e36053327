package display

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Spoken is a duration as people say it: 230 ms, 1.5 s, 3 min 41 s, 2 d 1 h. Its
// spaces do not break.
func Spoken(d time.Duration) string {
	plain := func(n float64, unit string) string {
		digits := 0
		if n < 9.95 {
			digits = 1
		}
		return strings.TrimSuffix(strconv.FormatFloat(n, 'f', digits, 64), ".0") + "\u00a0" + unit
	}
	two := func(n int64, unit string, m int64, smaller string) string {
		if m == 0 {
			return fmt.Sprintf("%d\u00a0%s", n, unit)
		}
		return fmt.Sprintf("%d\u00a0%s\u00a0%d\u00a0%s", n, unit, m, smaller)
	}
	switch d = max(d, 0); {
	case 0 < d && d < 100*time.Microsecond:
		return fmt.Sprintf("%d\u00a0µs", max(d.Microseconds(), 1))
	case d < 999500*time.Microsecond:
		return plain(float64(d.Microseconds())/1000, "ms")
	case d < 59500*time.Millisecond:
		return plain(d.Seconds(), "s")
	}
	switch s := int64(d.Round(time.Second) / time.Second); {
	case s < 3600:
		return two(s/60, "min", s%60, "s")
	case s < 86400:
		return two(s/3600, "h", s%3600/60, "min")
	default:
		return two(s/86400, "d", s%86400/3600, "h")
	}
}

// Clock is a time of day, with the date where it is of another day than now.
func Clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Format(time.DateOnly) != now.Format(time.DateOnly) {
		return t.Format(time.DateTime)
	}
	return t.Format(time.TimeOnly)
}
