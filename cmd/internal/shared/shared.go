// Package shared is what the bearerds of one account have in common: a token and a
// budget of logins, sealed, in an engine that speaks Redis' protocol. It is a
// tokens.Store. It knows nothing of requests, of settings, or of how a login is made.
package shared

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/bearerd/bearerd/tokens"
)

const (
	commandTimeout = 250 * time.Millisecond // of one command
	coldWait       = time.Second            // for the engine, at the start; and of a command by who has no token
	aloneLeast     = time.Second / 2
	aloneWait      = 2 * time.Second  // at most, before a login without the engine and without a token
	refusedLeast   = 10 * time.Second // the same for who knows that the last login was refused
	refusedWait    = 20 * time.Second
	lookEvery      = time.Second         // while others log in, or logins fail: a message may be lost
	leaseMore      = 5 * time.Second     // than a login takes
	keptFor        = 30 * 24 * time.Hour // what nobody has used since
)

// Options are the options of [New]. Address and LoginTimeout must be filled in.
type Options struct {
	Address      Address
	Credentials  func() (Address, error) // asked at each connection for names and passwords; nil: Address's
	Key          func() ([]byte, error)  // of KEY_FILE, where the account has no secret of its own; nil: none
	TLS          func() *tls.Config      // asked at each connection; nil: the system's roots
	LoginTimeout time.Duration
	Connections  int                              // for commands, at most; 0: 2, which is plenty for one Manager
	DialTimeout  time.Duration                    // of connecting and of the TLS handshake, each; 0: 5 s
	Clock        tokens.Clock                     // nil: time.Now
	Hash         func(secret, salt []byte) []byte // slow; nil: tokens.SlowHash

	Observe func(op, result string)    // called after each command; nil: nobody is
	Tell    func(up bool, cause error) // called when the engine is lost and found, in order, at the start only when lost; nil: nobody is
	Warn    func(error)                // called once when an entry cannot be read; nil: nobody is
}

// Store is a [tokens.Store] in an engine. Make one with [New], and Close it after
// the Managers that use it.
type Store struct {
	o      Options
	client engine
	clock  tokens.Clock
	id     string // of this process, in leases

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	lost   chan struct{} // has keep look at once; holds one
	first  chan struct{} // closed after the first try

	vaults vaults

	mu      sync.Mutex // guards what follows
	up      bool
	told    bool // that it is lost
	changed chan struct{}
	warned  bool
}

// engine is what a Store needs of a client.
type engine interface {
	redis.Scripter
	Publish(ctx context.Context, channel string, message any) *redis.IntCmd
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
	Close() error
}

var (
	errDown   = errors.New("the engine cannot be reached")
	errNoKey  = errors.New("the account has no secret that the fleet has in common, and there is no key file")
	errAnswer = errors.New("the engine answers something else than the script does")
)

// New returns a Store that connects in the background.
func New(o Options) *Store {
	if o.DialTimeout <= 0 {
		o.DialTimeout = 5 * time.Second
	}
	s := &Store{
		o: o, clock: o.Clock, id: randomName(), lost: make(chan struct{}, 1), first: make(chan struct{}), changed: make(chan struct{}),
	}
	if s.clock == nil {
		start := time.Now()
		s.clock = func() (time.Time, time.Duration) {
			now := time.Now()
			return now.Round(0), now.Sub(start)
		}
	}
	s.vaults.hash = o.Hash
	if o.Hash == nil {
		s.vaults.hash = slowHash
	}
	s.client = connect(o)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.keep)
	return s
}

// Close ends all waiting and closes the connections.
func (s *Store) Close() {
	s.cancel()
	s.wg.Wait()
	_ = s.client.Close()
}

// Up reports whether the engine answered last.
func (s *Store) Up() bool {
	up, _ := s.standing()
	return up
}

// standing returns Up, and what is closed when that changes.
func (s *Store) standing() (up bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up, s.changed
}

// keep connects, and looks now and then whether the engine still answers and can be
// written to. An engine that closes idle connections is kept from it.
func (s *Store) keep() {
	for tried := false; ; tried = true {
		// The handshake has its own time, and commands are not to wait for it.
		within := commandTimeout
		if !s.Up() {
			within += 2 * s.o.DialTimeout
		}
		err := s.probe(s.ctx, within)
		if err == nil && within > commandTimeout {
			err = s.probe(s.ctx, commandTimeout) // by the connection that is there now
		}
		if s.ctx.Err() != nil {
			return
		}
		s.found(err)
		if !tried {
			close(s.first)
		}
		wait := 20*time.Second + rand.N(20*time.Second)
		if err != nil {
			wait = 300*time.Millisecond + rand.N(1200*time.Millisecond) // a fleet is not to come back at one moment
			select {
			case <-s.lost: // by this try
			default:
			}
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(wait):
		case <-s.lost:
			select {
			case <-s.ctx.Done():
				return
			case <-time.After(rand.N(500 * time.Millisecond)):
			}
		}
	}
}

// found notes how the last command ended.
func (s *Store) found(err error) {
	s.mu.Lock()
	was, told := s.up, s.told
	s.up = err == nil
	tell := err != nil && !told || err == nil && told
	if tell {
		s.told = err != nil
	}
	if s.up != was {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	s.mu.Unlock()
	if err != nil {
		select {
		case s.lost <- struct{}{}:
		default:
		}
	}
	if tell && s.o.Tell != nil {
		s.o.Tell(err == nil, err)
	}
}

// ready returns nil when the engine is there. At the start it waits a moment.
func (s *Store) ready(ctx context.Context) error {
	select {
	case <-s.first:
	default:
		timer := time.NewTimer(coldWait)
		defer timer.Stop()
		select {
		case <-s.first:
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !s.Up() {
		return errDown
	}
	return nil
}

// untilUp waits until the engine answers.
func (s *Store) untilUp(ctx context.Context) error {
	for {
		up, changed := s.standing()
		if up {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Turn is as [tokens.Store] says.
func (s *Store) Turn(ctx context.Context, a tokens.Account, known tokens.State) (tokens.State, *tokens.Turn, error) {
	// A lease whose answer was lost is this turn's own: it is asked for again.
	attempt := s.id + "." + randomName()
	var alone <-chan time.Time // nil: the engine was there
	last := false              // what alone allows is tried once more with the engine
	answered := func() {
		// An engine that comes and goes must not keep a member for ever.
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > aloneWait+2*coldWait {
			alone, last = nil, false
		}
	}
	for {
		_, changed := s.standing()
		found, turn, err := s.turn(ctx, a, known, attempt, answered)
		if err == nil || ctx.Err() != nil || known.Token != nil || last {
			return found, turn, err
		}
		if alone == nil {
			alone = time.After(aloneAfter(ctx, known))
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return tokens.State{}, nil, ctx.Err()
			case <-alone:
				if !s.Up() {
					return tokens.State{}, nil, err
				}
				last, waiting = true, false
			case <-changed:
				var up bool
				up, changed = s.standing()
				waiting = !up
			}
		}
	}
}

// aloneAfter is how long who has no token waits for the engine: a fleet is not to
// log in at one moment. Who knows of a refusal has time: the next login is likely to
// be refused too, and each counts against the account. An engine that only was slow,
// as on a busy machine, is back until then. It is before ctx ends.
func aloneAfter(ctx context.Context, known tokens.State) time.Duration {
	wait := aloneLeast + rand.N(aloneWait-aloneLeast)
	if known.Rejections > 0 || known.Failure.Kind != "" {
		wait = refusedLeast + rand.N(refusedWait-refusedLeast)
	}
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, max(time.Until(end)-2*coldWait, 0))
	}
	return wait
}

// patience is the time of a command. Who has no token serves nobody meanwhile, and
// would log in alone where the engine, or this machine, is only busy.
func patience(known tokens.State) time.Duration {
	if known.Token == nil {
		return coldWait
	}
	return commandTimeout
}

// turn is Turn with the engine, or an error at once. Its leases are attempt's. It
// calls answered whenever the engine has said that it is another's turn.
func (s *Store) turn(ctx context.Context, a tokens.Account, known tokens.State, attempt string, answered func()) (tokens.State, *tokens.Turn, error) {
	if err := s.ready(ctx); err != nil {
		return tokens.State{}, nil, err
	}
	within := patience(known)
	var heard <-chan struct{}
	for {
		v, now, err := s.look(ctx, within, a)
		if err != nil {
			return tokens.State{}, nil, err
		}
		if now.state.NewerThan(known) {
			return now.state, nil, nil
		}
		if now, err = s.restore(ctx, within, v, now, known); err != nil {
			return tokens.State{}, nil, err
		}
		turn, held, err := s.lease(ctx, within, v, now, attempt, known)
		if err != nil {
			return tokens.State{}, nil, err
		}
		if turn != nil {
			return known, turn, nil
		}
		answered()
		if heard == nil {
			listening, stop := context.WithCancel(ctx)
			defer stop()
			heard = s.listen(listening, v.channel)
		}
		// A lease that ends without a word is its holder's death.
		wait := min(lookEvery, held+time.Millisecond)*4/5 + rand.N(min(lookEvery, held+time.Millisecond)*2/5)
		if held < 0 {
			wait = 0 // it changed meanwhile
		}
		select {
		case <-ctx.Done():
			return tokens.State{}, nil, ctx.Err()
		case <-heard:
		case <-time.After(wait):
		}
	}
}

// News is as [tokens.Store] says. What the engine has lost is written back.
func (s *Store) News(ctx context.Context, a tokens.Account, known tokens.State) (tokens.State, error) {
	within := patience(known)
	var heard <-chan struct{}
	for {
		if s.Up() {
			if v, now, err := s.look(ctx, within, a); err == nil {
				if now.state.NewerThan(known) {
					return now.state, nil
				}
				_, _ = s.restore(ctx, within, v, now, known)
				if heard == nil {
					heard = s.listen(ctx, v.channel)
				}
			}
		}
		select {
		case <-ctx.Done():
			return tokens.State{}, ctx.Err()
		case <-heard:
		case <-time.After(lookEvery*4/5 + rand.N(lookEvery*2/5)):
		}
	}
}

// listen tells of messages on a channel until ctx ends. Where there is no right to
// subscribe, or the connection is lost, it stays silent.
func (s *Store) listen(ctx context.Context, channel string) <-chan struct{} {
	heard := make(chan struct{}, 1)
	s.wg.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(s.ctx, cancel)()
		sub := s.client.Subscribe(ctx)
		defer func() { _ = sub.Close() }()
		if sub.Subscribe(ctx, channel) != nil {
			return
		}
		messages := sub.Channel(redis.WithChannelSize(1))
		for {
			select {
			case <-ctx.Done():
				return
			case _, ok := <-messages:
				if !ok {
					return
				}
				select {
				case heard <- struct{}{}:
				default:
				}
			}
		}
	})
	return heard
}
