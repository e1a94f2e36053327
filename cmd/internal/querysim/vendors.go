package querysim

import (
	"net/http"
	"slices"
)

// The account that every login server knows. It is public: it opens nothing
// but a simulator.
const (
	Username = "demo@example.com"
	Password = "not-a-real-password"
)

const (
	grantPassword          = "password"
	grantClientCredentials = "client_credentials"
)

// Vendor is one of the login servers, described by the preset it belongs to.
type Vendor struct {
	Name         string // as in BEARERD_PRESET
	LoginPath    string // of the token URL
	LoginHost    string // required in the Host header; empty: any
	GrantType    string // the one the preset uses
	ClientID     string
	ClientSecret string // empty: the client is public, it has none

	grants        []string // all that are accepted
	issuer        string   // the iss claim
	refusedStatus int      // of a wrong username or password
	keycloak      bool     // whether a good answer is a Keycloak's, else a bare one without expires_in
}

// Sources: the vendors' pages "How Do I Authenticate to use the Query Service
// API?" for vyopta and wxp, which are one product. A Keycloak answers a wrong
// password with 401; RFC 6749 5.2 asks for 400.
var vendors = []Vendor{
	{
		Name:          "vyopta",
		LoginPath:     "/auth/realms/vyopta/protocol/openid-connect/token",
		LoginHost:     "login.vyopta.com",
		GrantType:     grantPassword,
		ClientID:      "vyopta",
		grants:        []string{grantPassword},
		issuer:        "https://login.vyopta.com/auth/realms/vyopta",
		refusedStatus: http.StatusUnauthorized,
		keycloak:      true,
	},
	{
		Name:          "wxp",
		LoginPath:     "/auth/login",
		LoginHost:     "login.wxpcollaboration.hp.com",
		GrantType:     grantPassword,
		ClientID:      "WXP Collaboration",
		grants:        []string{grantPassword},
		issuer:        "https://login.wxpcollaboration.hp.com/auth",
		refusedStatus: http.StatusUnauthorized,
		keycloak:      true,
	},
	{
		Name:      "graphnet",
		LoginPath: "/vlive/hpca/oauth/token",
		GrantType: grantClientCredentials,
		ClientID:  "demo-client",
		// These characters tell a client that form-encodes the two halves of
		// its basic authentication (RFC 6749 2.3.1) from one that does not.
		ClientSecret:  "not:a+real%20secret",
		grants:        []string{grantClientCredentials, grantPassword},
		issuer:        "https://coret1.syhapp.com/vlive/hpca",
		refusedStatus: http.StatusBadRequest,
	},
}

// Vendors returns the login servers, in the order of their presets in the
// documentation.
func Vendors() []Vendor { return slices.Clone(vendors) }
