package config

import (
	"slices"
	"strings"
)

// preset is what a vendor's documentation says of its service.
type preset struct {
	values map[string]string // variable → value where the user sets none
	client bool              // the vendor allots a client: CLIENT_ID and CLIENT_SECRET are needed with every grant
}

// offered are the names of all presets, in the order in which they are told.
var offered = []string{"vyopta", "wxp", "graphnet"}

// presets by name. Sources: the API pages of each vendor's help centre.
var presets = map[string]preset{
	"vyopta": {
		values: map[string]string{
			"BEARERD_UPSTREAM":   "https://api.vyopta.com",
			"BEARERD_TOKEN_URL":  "https://login.vyopta.com/auth/realms/vyopta/protocol/openid-connect/token",
			"BEARERD_TOKEN_HOST": "login.vyopta.com",
			"BEARERD_GRANT_TYPE": "password",
			"BEARERD_CLIENT_ID":  "vyopta",
		},
	},
	// HP WXP Collaboration is Vyopta renamed, with a login server of its own.
	"wxp": {
		values: map[string]string{
			"BEARERD_UPSTREAM":   "https://api.vyopta.com",
			"BEARERD_TOKEN_URL":  "https://login.wxpcollaboration.hp.com/auth/login",
			"BEARERD_TOKEN_HOST": "login.wxpcollaboration.hp.com",
			"BEARERD_GRANT_TYPE": "password",
			"BEARERD_CLIENT_ID":  "WXP Collaboration", // with the space
		},
	},
	// No public upstream: the user sets it.
	"graphnet": {
		client: true,
		values: map[string]string{
			"BEARERD_TOKEN_URL":  "https://coret1.syhapp.com/vlive/hpca/oauth/token",
			"BEARERD_GRANT_TYPE": "client_credentials",
		},
	},
}

// choices are the values that a field's tag allows.
func choices(oneof string) []string {
	if oneof == "presets" {
		return slices.Clone(offered)
	}
	return strings.Fields(oneof)
}

// presetsWith names the presets that set a variable.
func presetsWith(variable string) string {
	names := slices.DeleteFunc(slices.Clone(offered), func(name string) bool { return presets[name].values[variable] == "" })
	slices.Sort(names)
	return strings.Join(names, ", ")
}
