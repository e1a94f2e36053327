package demo

// pasteLines are for cmd and for PowerShell, whose curl is another program, and whose
// version 5 gives no program a quote within quotes.
const pasteLines = `  curl.exe %[1]s/cpmm/api/v1/orgs/42/metrics/names
  curl.exe "%[1]s/cpmm/api/v1/orgs/42/calls?size=2"

in cmd:

  curl.exe -H "Content-Type: application/json" -d "{\"name\":\"activeCalls\",\"resultType\":\"kpi\",\"start\":\"2026-01-01T00:00:00Z\",\"end\":\"2026-01-02T00:00:00Z\"}" %[1]s/cpmm/api/v1/orgs/42/metrics

in PowerShell:

  irm -Method Post -ContentType application/json -Body '{"name":"activeCalls","resultType":"kpi","start":"2026-01-01T00:00:00Z","end":"2026-01-02T00:00:00Z"}' %[1]s/cpmm/api/v1/orgs/42/metrics
`
