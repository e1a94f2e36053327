package shared

import (
	"bytes"
	"context"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bearerd/bearerd/tokens"
)

// A silent engine is told of by whichever deadline comes first.
func TestWhichEverDeadlineComesFirst(t *testing.T) {
	for _, err := range []error{context.DeadlineExceeded, &net.OpError{Op: "read", Net: "unix", Err: os.ErrDeadlineExceeded}} {
		var told string
		s := &Store{o: Options{Observe: func(_, result string) { told = result }}}
		_ = s.done(context.Background(), opPublish, err)
		if told != "timeout" || Words(err) != "it does not answer in time" {
			t.Errorf("%v: got %q and %q", err, told, Words(err))
		}
	}
}

// Who knows of a refusal waits longer for an engine that is only slow: its next
// login alone would count against the account.
func TestAloneAfterARefusal(t *testing.T) {
	for range 1000 {
		if got := aloneAfter(t.Context(), tokens.State{}); got > 2*time.Second {
			t.Fatalf("knowing nothing: got %v, want 2 s at most", got)
		}
		if got := aloneAfter(t.Context(), tokens.State{Failure: tokens.Failure{Kind: tokens.Rejected}}); got < 10*time.Second || got > 20*time.Second {
			t.Fatalf("after a refusal: got %v, want 10 to 20 s", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second) // where a login is given 1 s
		got := aloneAfter(ctx, tokens.State{Rejections: 1})
		cancel()
		if got < 5*time.Second || got > 10*time.Second {
			t.Fatalf("after a refusal, with 12 s left: got %v, want less than is left", got)
		}
	}
}

// A process that learns late that its time was over asks again, and one whose engine
// is silent does not.
func TestWhoIsLateAsksAgain(t *testing.T) {
	for _, tt := range []struct {
		takes []time.Duration // of each try; one that takes longer than it may fails
		want  int
		ok    bool
	}{
		{[]time.Duration{10 * time.Millisecond}, 1, true},
		{[]time.Duration{commandTimeout + 5*time.Millisecond}, 1, false},
		{[]time.Duration{2 * commandTimeout, 10 * time.Millisecond}, 2, true},
		{[]time.Duration{2 * commandTimeout, 2 * commandTimeout, 2 * commandTimeout}, 3, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			err := inTime(t.Context(), commandTimeout, func(ctx context.Context) error {
				time.Sleep(tt.takes[tries])
				tries++
				return ctx.Err()
			})
			if tries != tt.want || (err == nil) != tt.ok {
				t.Errorf("%v: got %d tries and %v", tt.takes, tries, err)
			}
		})
	}
}

// The look whether the engine is there does not wait for argon2id: it has its time.
func TestSaltWhileAKeyIsMade(t *testing.T) {
	v := vaults{hash: slowHash}
	a, _ := (&tokens.Login{Grant: "password", Password: tokens.Source{Value: "password"}}).Account()
	began, end, made := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		_, err := v.of(a, func() ([]byte, error) {
			close(began)
			<-end
			return make([]byte, 32), nil
		})
		made <- err
	}()
	<-began
	offered := make(chan []byte, 1)
	go func() { offered <- v.offer() }()
	select {
	case <-offered:
	case <-time.After(time.Minute):
		t.Error("the salt waits for a key that is being made")
	}
	close(end)
	if err := <-made; err != nil {
		t.Fatal(err)
	}
}

// But for tests, a key is argon2id's.
func TestKeysAreMadeSlowly(t *testing.T) {
	s := New(Options{Address: Address{Socket: t.TempDir() + "/none"}})
	defer s.Close()
	secret, salt := []byte("secret"), make([]byte, saltSize)
	if got, want := s.vaults.hash(secret, salt), tokens.SlowHash(secret, salt); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}
