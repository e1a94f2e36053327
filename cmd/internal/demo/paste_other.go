//go:build !windows

package demo

// pasteLines are for a shell of Unix.
const pasteLines = `  curl %[1]s/cpmm/api/v1/orgs/42/metrics/names
  curl '%[1]s/cpmm/api/v1/orgs/42/calls?size=2'
  curl -H 'Content-Type: application/json' \
    -d '{"name":"activeCalls","resultType":"kpi","start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}' \
    %[1]s/cpmm/api/v1/orgs/42/metrics
`
