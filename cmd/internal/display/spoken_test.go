package display_test

import (
	"strings"
	"testing"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/display"
)

func TestSpoken(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 ms", 40 * time.Microsecond: "40 µs", time.Nanosecond: "1 µs", 340 * time.Microsecond: "0.3 ms", 12*time.Millisecond + 700*time.Microsecond: "13 ms", 999 * time.Millisecond: "999 ms",
		1500 * time.Millisecond: "1.5 s", 12 * time.Second: "12 s", 59700 * time.Millisecond: "1 min", 221 * time.Second: "3 min 41 s",
		time.Hour: "1 h", 90 * time.Minute: "1 h 30 min", 49 * time.Hour: "2 d 1 h", -time.Second: "0 ms",
	} {
		if got := strings.ReplaceAll(display.Spoken(d), "\u00a0", " "); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
