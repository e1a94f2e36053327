package shared

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/bearerd/bearerd/tokens"
)

// All keys begin with prefix. Its hash tag keeps them in one slot of a cluster.
const (
	prefix  = "bearerd:{bearerd}:"
	saltKey = prefix + "salt" // the one name that no key is needed for
)

const (
	saltSize   = 16
	entryForm  = 1 // first byte of an entry
	sealedSize = 1 + saltSize + 12
)

var errSealed = errors.New("the entry is not what a bearerd of this account has written")

// A vault seals what is stored of one account, by a key that its credential and a
// salt make, and gives it names that tell nobody whose it is.
type vault struct {
	salt                                   []byte
	seals                                  cipher.AEAD
	entryKey, leaseKey, numberKey, channel string

	number atomic.Int64 // highest of a lease that was seen
}

var hashing sync.Mutex

// slowHash is [tokens.SlowHash], and gives back the memory that a sidecar would hold
// for minutes.
func slowHash(secret, salt []byte) []byte {
	root := tokens.SlowHash(secret, salt)
	debug.FreeOSMemory()
	return root
}

// newVault computes for tens of milliseconds, in 19 MiB.
func newVault(a tokens.Account, salt []byte, key func() ([]byte, error), hash func(secret, salt []byte) []byte) (*vault, error) {
	material := a.Material()
	switch {
	case key != nil:
		more, err := key()
		if err != nil {
			return nil, err
		}
		material = append(material, more...)
	case !a.HasSecret():
		return nil, errNoKey
	}
	// One at a time: many would take memory, and the processor from those who wait
	// for an answer of the engine.
	hashing.Lock()
	root := hash(material, salt)
	hashing.Unlock()
	divide := func(use string) []byte {
		part, err := hkdf.Expand(sha256.New, root, "bearerd shared 1 "+use, 32)
		if err != nil {
			panic(err) // only for a length that no hash has
		}
		return part
	}
	block, err := aes.NewCipher(divide("seal"))
	if err != nil {
		return nil, err
	}
	seals, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	names := hmac.New(sha256.New, divide("names"))
	names.Write([]byte("account"))
	name := prefix + hex.EncodeToString(names.Sum(nil)[:16])
	return &vault{
		salt: salt, seals: seals,
		entryKey: name + ":entry", leaseKey: name + ":lease", numberKey: name + ":number", channel: name + ":news",
	}, nil
}

// additional is what is sealed with an entry but does not lie in it: it cannot be
// moved to another name or given another salt.
func (v *vault) additional() []byte {
	return slices.Concat([]byte{entryForm}, v.salt, []byte(v.entryKey))
}

// seal returns an entry of plain.
func (v *vault) seal(plain []byte) string {
	entry := slices.Concat([]byte{entryForm}, v.salt)
	nonce := make([]byte, v.seals.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	entry = append(entry, nonce...)
	return string(v.seals.Seal(entry, nonce, plain, v.additional()))
}

// open returns what seal was given.
func (v *vault) open(entry string) ([]byte, error) {
	if len(entry) < sealedSize || entry[0] != entryForm || entry[1:1+saltSize] != string(v.salt) {
		return nil, errSealed
	}
	plain, err := v.seals.Open(nil, []byte(entry[1+saltSize:sealedSize]), []byte(entry[sealedSize:]), v.additional())
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

// vaults makes a vault once a credential and salt, as argon2id is slow by intention.
// Who only wants the salt does not wait for it.
type vaults struct {
	hash func(secret, salt []byte) []byte

	making sync.Mutex // held while argon2id runs; guards last
	last   []made

	mu   sync.Mutex // guards what follows
	salt []byte     // that is offered to an engine that has none, or the engine's
}

type made struct {
	of tokens.Account
	v  *vault
}

// offer returns the salt for an engine that has none.
func (v *vaults) offer() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.salt == nil {
		v.salt = make([]byte, saltSize)
		_, _ = rand.Read(v.salt)
	}
	return v.salt
}

// adopt takes the engine's salt.
func (v *vaults) adopt(salt []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.salt = salt
}

// saltOf makes a salt of what lies in the engine: something else than a bearerd's
// makes a key as well, the same for all.
func saltOf(text string) []byte {
	if len(text) == saltSize {
		return []byte(text)
	}
	sum := sha256.Sum256([]byte(text))
	return sum[:saltSize]
}

// of returns the vault of a.
func (v *vaults) of(a tokens.Account, key func() ([]byte, error)) (*vault, error) {
	v.making.Lock()
	defer v.making.Unlock()
	salt := v.offer()
	for _, m := range v.last {
		if m.of == a && string(m.v.salt) == string(salt) {
			return m.v, nil
		}
	}
	fresh, err := newVault(a, salt, key, v.hash)
	if err != nil {
		return nil, err
	}
	v.last = append([]made{{a, fresh}}, v.last[:min(len(v.last), 3)]...)
	return fresh, nil
}

// randomName is one that nobody else has.
func randomName() string {
	b := make([]byte, 12)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
