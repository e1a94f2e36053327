package page

import (
	"cmp"
	"strings"
)

// Paste is what makes a tool ask bearerd, to be copied.
type Paste struct{ ID, Tool, Note, Text string }

// Pastes are those of the tools that most people have, with the address that
// bearerd has now.
func Pastes(f Facts) []Paste {
	base := cmp.Or(f.Base, "http://localhost")
	path := strings.TrimPrefix(cmp.Or(f.Example, "PATH"), "/")
	if f.Socket != "" && f.Base == "" {
		return []Paste{
			{"curl", "curl", "", "curl --unix-socket " + f.Socket + " 'http://localhost/" + path + "'"},
			{"python", "Python", "with httpx", "import httpx\n\nclient = httpx.Client(transport=httpx.HTTPTransport(uds=\"" + f.Socket + "\"))\nprint(client.get(\"http://localhost/" + path + "\").json())"},
		}
	}
	return []Paste{
		{"curl", "curl", "In PowerShell 5 write curl.exe.", "curl --fail-with-body '" + base + "/" + path + "'"},
		{"python", "Python", "No HTTP_PROXY on the way to this machine.", "import requests\n\nsession = requests.Session()\nsession.trust_env = False\nprint(session.get(\"" + base + "/" + path + "\", timeout=60).json())"},
		{"grafana", "Grafana", "The Infinity data source, as a file under provisioning/datasources.", "apiVersion: 1\ndatasources:\n  - name: Query Service\n    type: yesoreyeram-infinity-datasource\n    url: " + base + "\n    jsonData:\n      auth_method: none"},
		{"powerbi", "Power BI and Excel", "Get data, Blank query, Advanced editor; credentials Anonymous.", "let\n    Answer = Json.Document(Web.Contents(\"" + base + "\", [RelativePath = \"" + path + "\"]))\nin\n    Answer"},
		{"postman", "Postman", "In the desktop app, as a request without authorization.", base + "/" + path},
	}
}
