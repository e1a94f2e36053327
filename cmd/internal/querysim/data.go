package querysim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// maxFound is the most records one information query finds; beyond it the
// answer says limitReached.
const maxFound = 10_000

// data makes up what the Query Service knows. Nothing is stored: each thing
// is drawn from the seed, its org and its number, so the same question has
// the same answer whenever it is asked, for any org and any time.
type data struct{ seed uint64 }

// draw returns the source of one thing's properties.
func (d data) draw(org int64, what string, n int64) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s/%d", org, what, n)
	return rand.New(rand.NewPCG(d.seed, h.Sum64()))
}

// field is one member of a record. Its value is a string or an int.
type field struct {
	name  string
	value any
}

// record is a JSON object that keeps the order of its fields.
type record []field

func (rec record) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, f := range rec {
		b.WriteByte("{,"[min(i, 1)])
		value, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", f.name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// get returns the value of the field called name, nil if there is none.
func (rec record) get(name string) any {
	for _, f := range rec {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// matches reports whether rec has all of the wanted values, whatever their
// case.
func (rec record) matches(wanted []field) bool {
	for _, f := range wanted {
		if !strings.EqualFold(fmt.Sprint(rec.get(f.name)), fmt.Sprint(f.value)) {
			return false
		}
	}
	return true
}

// compareValues orders two values of one field, which have one type.
func compareValues(a, b any) int {
	if a, ok := a.(int); ok {
		return cmp.Compare(a, b.(int))
	}
	return strings.Compare(a.(string), b.(string))
}

// kind is one of the information queries. Its records either begin at moments
// of their own, one in each stretch of every, or are things that are always
// there, count to twice count of them in an org.
type kind struct {
	name  string
	every time.Duration // 0: always there
	count int
	fill  func(rnd *rand.Rand, n int64, at time.Time) record
}

func (k kind) hasField(name string) bool {
	return k.fill(rand.New(rand.NewPCG(0, 0)), 0, time.Time{}).get(name) != nil
}

// records returns what one org has of k, in order of time or number, and
// whether there was more than maxFound.
func (d data) records(k kind, org int64, win window) (found []record, limitReached bool) {
	if k.every == 0 {
		for n := range k.count + d.draw(org, k.name, -1).IntN(k.count+1) {
			found = append(found, k.fill(d.draw(org, k.name, int64(n)), int64(n), time.Time{}))
		}
		return found, false
	}
	for n := win.start.UnixNano() / int64(k.every); ; n++ {
		rnd := d.draw(org, k.name, n)
		at := time.Unix(0, n*int64(k.every)).Add(time.Duration(rnd.Int64N(int64(k.every)))).UTC().Truncate(time.Second)
		switch {
		case at.Before(win.start):
		case !at.Before(win.end):
			return found, false
		case len(found) == maxFound:
			return found, true
		default:
			found = append(found, k.fill(rnd, n, at))
		}
	}
}

var kinds = map[string]kind{
	"calls":     {name: "calls", every: 10 * time.Minute, fill: fillCall},
	"meetings":  {name: "meetings", every: 30 * time.Minute, fill: fillMeeting},
	"endpoints": {name: "endpoints", count: 40, fill: fillEndpoint},
	"systems":   {name: "systems", count: 5, fill: fillSystem},
	"trunks":    {name: "trunks", count: 3, fill: fillTrunk},
}

var (
	bridgeModels   = []string{"Cisco Meeting Server", "Pexip Infinity", "Poly RMX 1800"}
	controlModels  = []string{"Cisco Unified CM", "Cisco Expressway", "Poly DMA"}
	endpointModels = []string{"Cisco Room Kit", "Cisco Board Pro", "Logitech Rally Bar", "Poly G7500", "Poly Studio X50", "Yealink MeetingBar A30"}
	models         = append(append(append([]string{}, bridgeModels...), controlModels...), endpointModels...)

	rooms     = []string{"Aspen", "Birch", "Cedar", "Elm", "Hazel", "Larch", "Maple", "Oak", "Rowan", "Willow"}
	sites     = []string{"Austin", "Berlin", "London", "Palo Alto", "Singapore", "Tokyo"}
	protocols = []string{"SIP", "H.323", "WebRTC", "Teams"}
	titles    = []string{"Architecture review", "Customer call", "Planning", "Stand-up", "Training"}
)

func pick(rnd *rand.Rand, from []string) string { return from[rnd.IntN(len(from))] }

// mostly returns usual, or in one case of ten other.
func mostly(rnd *rand.Rand, usual, other string) string {
	if rnd.IntN(10) == 0 {
		return other
	}
	return usual
}

func timestamp(t time.Time) string { return t.Format(time.RFC3339) }

func fillCall(rnd *rand.Rand, n int64, at time.Time) record {
	seconds := 30 + rnd.IntN(3600)
	return record{
		{"id", fmt.Sprintf("call-%d", n)},
		{"startTime", timestamp(at)},
		{"endTime", timestamp(at.Add(time.Duration(seconds) * time.Second))},
		{"duration", seconds},
		{"status", mostly(rnd, "completed", "failed")},
		{"direction", pick(rnd, []string{"inbound", "outbound"})},
		{"protocol", pick(rnd, protocols)},
		{"endpoint", pick(rnd, rooms)},
		{"site", pick(rnd, sites)},
		{"bandwidthKbps", 384 + rnd.IntN(3700)},
		{"jitterMs", rnd.IntN(40)},
		{"packetLossPermille", rnd.IntN(30)},
	}
}

func fillMeeting(rnd *rand.Rand, n int64, at time.Time) record {
	seconds := 900 * (1 + rnd.IntN(8))
	return record{
		{"id", fmt.Sprintf("meeting-%d", n)},
		{"title", pick(rnd, titles)},
		{"startTime", timestamp(at)},
		{"endTime", timestamp(at.Add(time.Duration(seconds) * time.Second))},
		{"duration", seconds},
		{"room", pick(rnd, rooms)},
		{"site", pick(rnd, sites)},
		{"platform", pick(rnd, bridgeModels)},
		{"participants", 2 + rnd.IntN(30)},
	}
}

func fillEndpoint(rnd *rand.Rand, n int64, _ time.Time) record {
	return record{
		{"id", fmt.Sprintf("endpoint-%d", n)},
		{"name", fmt.Sprintf("%s %d", pick(rnd, rooms), n)},
		{"model", pick(rnd, endpointModels)},
		{"site", pick(rnd, sites)},
		{"status", mostly(rnd, "online", "offline")},
		{"ipAddress", fmt.Sprintf("192.0.2.%d", 1+rnd.IntN(254))}, // RFC 5737
		{"softwareVersion", fmt.Sprintf("%d.%d.%d", 9+rnd.IntN(3), rnd.IntN(20), rnd.IntN(10))},
	}
}

func fillSystem(rnd *rand.Rand, n int64, _ time.Time) record {
	role, from := "bridge", bridgeModels
	if rnd.IntN(2) == 0 {
		role, from = "callControl", controlModels
	}
	ports := 50 * (1 + rnd.IntN(10))
	return record{
		{"id", fmt.Sprintf("system-%d", n)},
		{"name", fmt.Sprintf("%s-%d", role, n)},
		{"type", role},
		{"model", pick(rnd, from)},
		{"site", pick(rnd, sites)},
		{"status", mostly(rnd, "up", "degraded")},
		{"ports", ports},
		{"portsInUse", rnd.IntN(ports + 1)},
	}
}

func fillTrunk(rnd *rand.Rand, n int64, _ time.Time) record {
	channels := 30 * (1 + rnd.IntN(4))
	return record{
		{"id", fmt.Sprintf("trunk-%d", n)},
		{"name", fmt.Sprintf("trunk %s %d", pick(rnd, sites), n)},
		{"protocol", pick(rnd, []string{"SIP", "ISDN PRI"})},
		{"status", mostly(rnd, "up", "down")},
		{"channels", channels},
		{"channelsInUse", rnd.IntN(channels + 1)},
	}
}

// metric is one of metrics/names, with the range of its values.
type metric struct {
	name      string
	low, high float64
}

var metrics = []metric{
	{"activeCalls", 0, 240},
	{"activeMeetings", 0, 60},
	{"averageJitter", 1, 40},
	{"averageLatency", 10, 220},
	{"averagePacketLoss", 0, 4},
	{"bandwidthUsed", 0, 900},
	{"callQuality", 1, 5},
	{"endpointsOnline", 20, 80},
	{"portsInUse", 0, 500},
	{"trunkUtilization", 0, 100},
}

func metricNames() []string {
	names := make([]string, len(metrics))
	for i, m := range metrics {
		names[i] = m.name
	}
	return names
}

// sample is the value of a metric at one moment.
type sample struct {
	Timestamp time.Time `json:"timestamp"`
	Value     float64   `json:"value"`
}

const (
	sampleEvery = time.Minute
	maxSamples  = 300 // of one trend
)

// at returns the value of m at t: a day's rise and fall, and noise.
func (d data) at(m metric, org int64, model string, t time.Time) sample {
	series := m.name + "/" + model
	peak := d.draw(org, series, -1).Float64() // of the day
	day := float64(t.Unix()) / (24 * 60 * 60)
	level := 0.5 + 0.4*math.Cos(2*math.Pi*(day-peak)) + 0.2*(d.draw(org, series, t.Unix()).Float64()-0.5)
	// Two decimals also hide what floating point differs by between machines.
	value := math.Round(100*(m.low+(m.high-m.low)*level)) / 100
	return sample{t, value}
}

// kpi returns the last sample in win, and false if there is none.
func (d data) kpi(m metric, org int64, model string, win window) (sample, bool) {
	last := win.end.Add(-1).Truncate(sampleEvery)
	if last.Before(win.start) {
		return sample{}, false
	}
	return d.at(m, org, model, last), true
}

// trend returns the samples in win, thinned out to maxSamples at most, and the
// time from one to the next.
func (d data) trend(m metric, org int64, model string, win window) ([]sample, time.Duration) {
	interval := sampleEvery
	for win.end.Sub(win.start) > maxSamples*interval {
		interval *= 2
	}
	samples := []sample{}
	for t := win.start.Truncate(interval); t.Before(win.end); t = t.Add(interval) {
		if !t.Before(win.start) {
			samples = append(samples, d.at(m, org, model, t))
		}
	}
	return samples, interval
}
