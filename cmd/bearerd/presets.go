package main

import (
	"maps"
	"slices"
	"strings"
)

// preset is what a vendor's documentation says of its service.
type preset struct {
	values map[string]string // variable → value where the user sets none
	client bool              // the vendor allots a client: CLIENT_ID and CLIENT_SECRET are needed with every grant
}

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

func presetNames() string {
	return strings.Join(slices.Sorted(maps.Keys(presets)), ", ")
}
