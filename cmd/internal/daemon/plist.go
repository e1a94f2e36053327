package daemon

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// label is the name of a service for launchd.
func label(name string) string { return "local." + name }

// plist is the LaunchAgent that starts program with args at the user's login, and
// again where it failed.
func plist(name string, args []string) string {
	var list strings.Builder
	for _, arg := range args {
		list.WriteString("    <string>")
		_ = xml.EscapeText(&list, []byte(arg)) // which does not fail
		list.WriteString("</string>\n")
	}
	return fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- %s -->
<plist version="1.0">
<dict>
  <key>Label</key>
  <string>%s</string>
  <key>ProgramArguments</key>
  <array>
%s  </array>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
  <key>ThrottleInterval</key>
  <integer>30</integer>
  <key>ExitTimeOut</key>
  <integer>30</integer>
  <key>ProcessType</key>
  <string>Background</string>
</dict>
</plist>
`, strings.Trim(marker, "# \n"), label(name), list.String())
}

// plistArgs are the arguments of a plist that plist has made.
func plistArgs(text string) ([]string, error) {
	var file struct {
		Args []string `xml:"dict>array>string"`
	}
	err := xml.Unmarshal([]byte(text), &file)
	return file.Args, err
}
