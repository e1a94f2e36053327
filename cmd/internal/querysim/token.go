package querysim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	refreshLifetime = 1800 * time.Second
	keycloakScope   = "email profile"
)

// claims are those of a Keycloak; APIs are graphnet's, which list what the
// token opens.
type claims struct {
	jwt.RegisteredClaims
	Type            string   `json:"typ"`
	AuthorizedParty string   `json:"azp"`
	SessionState    string   `json:"session_state,omitempty"`
	Scope           string   `json:"scope,omitempty"`
	APIs            []string `json:"apis,omitempty"`
}

// tokenStore issues tokens and knows which are live.
type tokenStore struct {
	key    *ecdsa.PrivateKey
	parser *jwt.Parser

	mu       sync.Mutex    // guards what follows
	lifetime time.Duration // of the tokens issued from now on
	// live holds when each token begins and ends, by jti. The moments are kept here
	// because iat and exp are whole seconds: a token issued at 0.9 s would, by its
	// exp, live up to a second less than it was promised. Ended tokens are dropped
	// at the next login, so live holds at most those of one lifetime.
	live map[string]span
	// verified holds the jti of each text whose signature was found good, by
	// hash, so that a load test measures bearerd and not this signature. It is
	// emptied at each login. What it says of a token that is no longer in live
	// does not matter.
	verified map[[sha256.Size]byte]string
	// last is the latest JWT of each subject at each vendor, for LoginSameToken.
	last map[subjectAt]issued
}

type subjectAt struct{ vendor, subject string }

// span is a token's life, and whose it is.
type span struct {
	from, ends time.Time
	of         subjectAt
}

func newTokenStore(lifetime time.Duration) (*tokenStore, error) {
	// ES256, because an RSA key takes up to a second to make.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the signing key: %w", err)
	}
	return &tokenStore{
		lifetime: lifetime,
		key:      key,
		// The one algorithm: "none", or HS256 with the public key as secret,
		// must not pass. Time is judged by live, not by exp.
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodES256.Alg()}),
			jwt.WithStrictDecoding(),
			jwt.WithoutClaimsValidation(),
		),
		live:     map[string]span{},
		verified: map[[sha256.Size]byte]string{},
		last:     map[subjectAt]issued{},
	}, nil
}

type issued struct {
	id                       string // in live
	access, refresh, session string
	ends                     time.Time
}

// opaquePrefix begins every token that is no JWT, and no jti: the text of such
// a token is its id in live, and to know the jti of a JWT must open nothing.
const opaquePrefix = "opaque-"

// issue makes a token for subject that is live from now for one lifetime, in
// the form that fault gives it. Where alone is set it ends the subject's others.
func (ts *tokenStore) issue(v Vendor, subject string, now time.Time, fault LoginFault, alone bool) (issued, error) {
	if fault == LoginSameToken {
		if t, ok := ts.again(v, subject, now); ok {
			return t, nil
		}
	}
	ts.mu.Lock()
	ends := now.Add(ts.lifetime)
	ts.mu.Unlock()
	id := rand.Text()
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    v.issuer,
			Subject:   subject,
			ID:        id,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(ends),
		},
		Type:            "Bearer",
		AuthorizedParty: v.ClientID,
	}
	if fault == LoginNoIssuedAt {
		c.IssuedAt = nil
	}
	t := issued{id: id, ends: ends}
	var err error
	if v.keycloak {
		t.session = rand.Text()
		c.SessionState = t.session
		c.Audience = jwt.ClaimStrings{"account"}
		c.Scope = keycloakScope
		refresh := c
		refresh.Type, refresh.ID = "Refresh", rand.Text()
		refresh.ExpiresAt = jwt.NewNumericDate(now.Add(refreshLifetime))
		if t.refresh, err = ts.sign(refresh); err != nil {
			return issued{}, err
		}
	} else {
		c.Audience = jwt.ClaimStrings{"query-service"}
		c.APIs = []string{"/cpmm/api/v1"}
	}
	if fault == LoginOpaque {
		t.id = opaquePrefix + id
		t.access = t.id
	} else if t.access, err = ts.sign(c); err != nil {
		return issued{}, err
	}

	ts.mu.Lock()
	defer ts.mu.Unlock()
	of := subjectAt{v.Name, subject}
	maps.DeleteFunc(ts.live, func(_ string, life span) bool { return !now.Before(life.ends) || alone && life.of == of })
	clear(ts.verified)
	ts.live[t.id] = span{now, t.ends, of}
	if fault != LoginNoIssuedAt && fault != LoginOpaque {
		ts.last[of] = t
	}
	return t, nil
}

// again returns the last JWT of subject at v, if it has a second to live: less
// would be an expires_in of 0.
func (ts *tokenStore) again(v Vendor, subject string, now time.Time) (issued, bool) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.last[subjectAt{v.Name, subject}]
	_, live := ts.live[t.id]
	return t, live && t.ends.Sub(now) >= time.Second
}

func (ts *tokenStore) sign(c claims) (string, error) {
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, c).SignedString(ts.key)
	if err != nil {
		return "", fmt.Errorf("signing a token: %w", err)
	}
	return text, nil
}

// good reports whether text is a token of this store that is live now, and not
// younger than f lets it be.
func (ts *tokenStore) good(text string, now time.Time, f Faults) bool {
	hash := sha256.Sum256([]byte(text))
	ts.mu.Lock()
	id, ok := ts.verified[hash]
	ts.mu.Unlock()
	if !ok && strings.HasPrefix(text, opaquePrefix) {
		id = text
	} else if !ok {
		var c claims
		_, err := ts.parser.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) { return &ts.key.PublicKey, nil })
		if err != nil {
			return false
		}
		id = c.ID
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	life, live := ts.live[id]
	if !live || !now.Before(life.ends) || f.TokenDelay > 0 && now.Before(life.from.Add(f.TokenDelay)) {
		return false
	}
	ts.verified[hash] = id
	if f.SingleUse {
		delete(ts.live, id)
	}
	return true
}

// revoke ends every token and returns how many were live now.
func (ts *tokenStore) revoke(now time.Time) int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	n := 0
	for _, life := range ts.live {
		if now.Before(life.ends) {
			n++
		}
	}
	clear(ts.live)
	clear(ts.verified)
	return n
}

// RequireToken returns next behind the Query Service's token check: exactly
// one Authorization header, "Bearer", one space, a live token. Anything else
// is answered 401 (RFC 6750 3) and does not reach next.
func (s *Simulator) RequireToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !waited(r, s.beginQuery()) {
			return
		}
		faults := s.Faults()
		now := s.now().Add(faults.Skew)
		if faults.Skew != 0 {
			w.Header().Set("Date", httpDate(now)) // without it net/http's is right
		}
		text, wellFormed := bearerToken(r.Header)
		good := wellFormed && s.tokens.good(text, now, faults)
		fault := s.judgeQuery(r, wellFormed, good)
		switch {
		case fault != "":
			misbehave(w, r, fault)
		case good:
			next.ServeHTTP(w, r)
		case wellFormed:
			unauthorized(w, "The token is not known, has expired or was revoked")
		default:
			unauthorized(w, "One Authorization header is required: Bearer, one space, the token")
		}
	})
}

func unauthorized(w http.ResponseWriter, description string) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="query-service", error="invalid_token", error_description=%q`, description))
	writeJSON(w, http.StatusUnauthorized, errorBody{Error: "invalid_token", Description: description})
}

// bearerToken returns the token of h and whether there is one, in form. The
// vendors document "Bearer", so its case counts here, unlike in RFC 9110.
func bearerToken(h http.Header) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	text, ok := strings.CutPrefix(values[0], "Bearer ")
	return text, ok && text != "" && !strings.ContainsAny(text, " \t,")
}
