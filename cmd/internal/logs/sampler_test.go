package logs

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
	"github.com/bearerd/bearerd/cmd/internal/output"
	"github.com/bearerd/bearerd/proxy"
)

func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		told := make(map[string][]int)
		s := &sampler{tell: func(kind string, n int, since time.Time) {
			told[kind] = append(told[kind], n)
			if since.Before(began) || time.Since(since) > sampleEvery {
				t.Errorf("told after %v of what began at %v", time.Since(began), since.Sub(began))
			}
		}}
		expect := func(kind string, times, allowed int) {
			t.Helper()
			got := 0
			for range times {
				if s.allow(kind) {
					got++
				}
			}
			if got != allowed {
				t.Errorf("of %d lines got %d, want %d", times, got, allowed)
			}
		}
		expect("a", SampleBurst, SampleBurst)
		expect("a", 5, 0)
		expect("b", 3, 3) // another kind has its own
		time.Sleep(sampleEvery)
		synctest.Wait()
		expect("a", 5, 1)
		expect("b", SampleBurst-2, SampleBurst-2)
		time.Sleep(sampleEvery * SampleBurst)
		synctest.Wait()
		expect("a", SampleBurst+7, SampleBurst)
		s.close()
		s.close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if !slices.Equal(told["a"], []int{5, 4, 7}) || len(told["b"]) > 0 {
			t.Errorf("told %v, want of a 5, 4 and 7", told)
		}
	})
	var all *sampler
	if !all.allow("x") {
		t.Error("a nil sampler does not let all through")
	}
}

// What was left out is told of before a line like it is written: the log is in order.
func TestSamplerTellsBeforeItWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		s := &sampler{tell: func(_ string, n int, _ time.Time) { told += n }}
		for range SampleBurst {
			s.allow("a")
		}
		time.Sleep(sampleEvery / 2)
		s.allow("a") // left out, and told of in sampleEvery
		time.Sleep(sampleEvery * 3 / 4)
		if s.allow("a") {
			t.Error("a line is written though others are yet to be told of")
		}
		time.Sleep(sampleEvery / 2)
		synctest.Wait()
		if told != 2 || !s.allow("a") {
			t.Errorf("told of %d, want 2 and then a line", told)
		}
	})
}

// A page that sends refused requests without end costs some bytes a second.
func TestThreatRefusalsFillTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bearerdtest.Output
		lines := &output.Lines{W: &out}
		log := Open(lines, "info", "json")
		requests := Access{log.Access, "all", log.Sparing}
		const seconds, each = 3600, 50
		long := "/" + strings.Repeat("x", 60<<10)
		for i := range seconds {
			for range each {
				requests.Log(&proxy.Exchange{
					Method: "POST", Path: long, Status: 403, Error: proxy.CrossSite,
					Outcome: proxy.Completed,
				})
			}
			time.Sleep(time.Second)
			if i%60 == 0 && len(out.String()) > 300*seconds { // without end it would fill the memory
				t.Fatalf("got %d bytes after %d seconds", len(out.String()), i)
			}
		}
		log.Flush()
		if got := len(out.String()) / seconds; got > 300 {
			t.Errorf("got %d bytes a second, want at most 300", got)
		}
		written, left := bearerdtest.Account(t, out.String(), proxy.CrossSite)
		if written+left != seconds*each {
			t.Errorf("%d lines and %d told of, want %d in all", written, left, seconds*each)
		}
	})
}

// What bearerd refuses by itself is bounded, whatever its code. What a login or
// upstream has failed is the access log's to tell.
func TestEveryRefusalIsBounded(t *testing.T) {
	for _, code := range append(proxy.Codes(), "") {
		var out bearerdtest.Output
		lines := &output.Lines{W: &out}
		log := Open(lines, "info", "json")
		requests := Access{log.Access, "all", log.Sparing}
		for range 2 * SampleBurst {
			requests.Log(&proxy.Exchange{Method: "GET", Path: "/", Status: 400, Error: code, Outcome: proxy.Completed})
		}
		log.Flush()
		want := SampleBurst
		if code.Fault() != proxy.FaultCaller {
			want = 2 * SampleBurst
		}
		if written, left := bearerdtest.Account(t, out.String(), code); written != want || written+left != 2*SampleBurst {
			t.Errorf("%q: got %d lines and %d left out, want %d", code, written, left, want)
		}
	}
}
