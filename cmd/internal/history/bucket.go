package history

import (
	"math/bits"
	"time"
)

const (
	// Kept is how far back the counts go.
	Kept = time.Hour
	// Every is the time that a [Bucket] is of.
	Every = 5 * time.Second

	buckets = int64(Kept/Every) + 2 // the first and the last are in part within the hour
)

// Bucket counts the requests that ended within [Every].
type Bucket struct {
	number  int64 // Every's since 1970; a bucket of another hour is empty
	Counts  Counts
	Latency Latency // of those that went upstream
}

// At is when b begins.
func (b *Bucket) At() time.Time { return time.Unix(b.number*int64(Every/time.Second), 0) }

func bucketOf(t time.Time) int64 { return t.Unix() / int64(Every/time.Second) }

// bucket returns the one of t, emptied if it was of another hour. The caller
// holds mu.
func (h *History) bucket(t time.Time) *Bucket {
	number := bucketOf(t)
	b := &h.buckets[((number%buckets)+buckets)%buckets]
	if b.number != number {
		*b = Bucket{number: number}
	}
	return b
}

// Latency is how long requests took: their number by durations, each of which is
// at most a quarter longer than the one before.
type Latency [latencies]uint32

const (
	latencies = 96
	// shortest is 2 to this power, in microseconds: what is shorter is counted
	// together. With 96 the longest is 18 minutes.
	shortest = 6
)

func latencyOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	n := bits.Len64(us)
	if n <= shortest {
		return 0
	}
	return min(4*(n-1-shortest)+int(us>>(n-3)&3)+1, latencies-1)
}

func (l *Latency) add(d time.Duration) { l[latencyOf(d)]++ }

// Merge adds what other counted.
func (l *Latency) Merge(other *Latency) {
	for i, n := range other {
		l[i] += n
	}
}

// Quantile is how long the share q of the requests took at most, to an eighth;
// 0 without requests.
func (l *Latency) Quantile(q float64) time.Duration {
	var all uint64
	for _, n := range l {
		all += uint64(n)
	}
	if all == 0 {
		return 0
	}
	rank := uint64(q*float64(all-1)) + 1
	for i, n := range l {
		if rank <= uint64(n) {
			return middle(i)
		}
		rank -= uint64(n)
	}
	return middle(latencies - 1)
}

// middle of the durations that are counted in i.
func middle(i int) time.Duration {
	if i == 0 {
		return 1 << (shortest - 1) * time.Microsecond
	}
	octave, quarter := (i-1)/4, time.Duration((i-1)%4)
	quarterOf := time.Duration(1<<(shortest+octave)) * time.Microsecond / 4
	return (4+quarter)*quarterOf + quarterOf/2
}
