package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/bearerd/bearerd/cmd/internal/bearerdtest"
)

func TestShared(t *testing.T) {
	file := bearerdtest.WriteFile(t, "redis://u:hunter2@engine.example\n")
	key := bearerdtest.WriteFile(t, strings.Repeat("\x01", 32))
	noSecret := []string{"BEARERD_GRANT_TYPE=client_credentials", "BEARERD_CLIENT_ASSERTION_FILE=" + file, "BEARERD_USERNAME=", "BEARERD_PASSWORD="}
	for _, tt := range []struct {
		set   []string
		wrong string // what the message names; "": none
	}{
		{[]string{"BEARERD_SHARED=redis://engine.example"}, ""},
		{[]string{"BEARERD_SHARED_FILE=" + file}, ""},
		{[]string{"BEARERD_SHARED=redis://u:hunter2@engine.example"}, "BEARERD_SHARED: has a user or password in it"},
		{[]string{"BEARERD_SHARED=redis-sentinel://a,b/m?sentinel_password=hunter2"}, "BEARERD_SHARED: has a user or password in it"},
		{[]string{"BEARERD_SHARED=http://engine.example"}, "BEARERD_SHARED: begins with no scheme that is known"},
		{[]string{"BEARERD_SHARED_FILE=/no/such/file"}, "BEARERD_SHARED_FILE:"},
		{append(noSecret, "BEARERD_SHARED=redis://engine.example"), "BEARERD_SHARED_KEY_FILE: missing"},
		{append(noSecret, "BEARERD_SHARED=redis://engine.example", "BEARERD_SHARED_KEY_FILE="+key), ""},
		{[]string{"BEARERD_SHARED=redis://engine.example", "BEARERD_SHARED_KEY_FILE=" + file}, "BEARERD_SHARED_KEY_FILE:"},
		{[]string{"BEARERD_SHARED=rediss://engine.example", "BEARERD_SHARED_CA_FILE=" + file}, "BEARERD_SHARED_CA_FILE:"},
		{[]string{"BEARERD_STATE_DIR=state"}, "BEARERD_STATE_DIR: is relative"},
		{[]string{"BEARERD_STATE_DIR=" + file}, "BEARERD_STATE_DIR:"},
	} {
		c, err := loadConfig(given{fromEnvironment, bearerdtest.With(tt.set...)})
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the message shows the password: %v", tt.set, err)
		}
		switch bad, _ := errors.AsType[*Error](err); {
		case tt.wrong == "" && err != nil:
			t.Errorf("%q: %v", tt.set, err)
		case tt.wrong == "" && c.SharedAddress == nil:
			t.Errorf("%q: no address", tt.set)
		case tt.wrong != "" && (bad == nil || len(bad.Problems) != 1 || !strings.HasPrefix(err.Error(), tt.wrong)):
			t.Errorf("%q: got %v, want %s", tt.set, err, tt.wrong)
		}
	}
}
