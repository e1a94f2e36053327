package shared

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/bearerd/bearerd/tokens"
)

// The scripts touch only the keys they are given, all of one hash tag.
var (
	// probeScript sets the salt where there is none, and returns it. A replica and a
	// full engine refuse it: it is the look whether the engine can be written to.
	probeScript = redis.NewScript(`
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])`)

	// lookScript returns salt, entry and the engine's time.
	lookScript = redis.NewScript(`
local t = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', redis.call('GET', KEYS[2]) or '', t[1], t[2]}`)

	// swapScript puts an entry where another is still the one that was looked at.
	swapScript = redis.NewScript(`
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`)

	// leaseScript takes the lease for an owner, where nobody else has it and the entry
	// is still the one that was looked at. Its number is above all that were; an owner
	// that asks again, as its answer was lost, has the same and the whole time. It
	// returns 1, the number and the engine's time; 0 and what is left of another's; or 2.
	leaseScript = redis.NewScript(`
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return {2, 0, 0, 0} end
local t = redis.call('TIME')
local owner = redis.call('GET', KEYS[2])
if owner and string.sub(owner, 1, #ARGV[2]) == ARGV[2] then
  redis.call('SET', KEYS[2], owner, 'PX', ARGV[3])
  return {1, tonumber(string.sub(owner, #ARGV[2] + 2)), t[1], t[2]}
end
if owner then return {0, redis.call('PTTL', KEYS[2]), 0, 0} end
local n = math.max(tonumber(redis.call('GET', KEYS[3]) or '0') or 0, tonumber(ARGV[4])) + 1
redis.call('SET', KEYS[3], string.format('%.0f', n), 'PX', ARGV[5])
redis.call('SET', KEYS[2], ARGV[2] .. ':' .. string.format('%.0f', n), 'PX', ARGV[3])
return {1, n, t[1], t[2]}`)

	// endScript gives a lease back, and puts an entry unless that is empty, or
	// another lies there than the fifth argument, if there is one. A lease that has
	// ended does for it as long as nobody has had one since.
	endScript = redis.NewScript(`
local owner = redis.call('GET', KEYS[2])
if owner ~= ARGV[1] .. ':' .. ARGV[2] and (owner or redis.call('GET', KEYS[3]) ~= ARGV[2]) then return 0 end
if ARGV[3] ~= '' and (not ARGV[5] or (redis.call('GET', KEYS[1]) or '') == ARGV[5]) then redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
if owner then redis.call('DEL', KEYS[2]) end
return 1`)
)

// run runs a script within a time, and takes note of how that ended.
func (s *Store) run(ctx context.Context, within time.Duration, op string, script *redis.Script, keys []string, args ...any) (answer any, err error) {
	err = inTime(ctx, within, func(ctx context.Context) (err error) {
		answer, err = script.Run(ctx, s.client, keys, args...).Result()
		return err
	})
	return answer, s.done(ctx, op, err)
}

// inTime calls f with a time limit, and again where this process learned late that
// the time was over: on a machine that is too busy the answer may have lain there for
// long, and the engine has not failed. So what f does twice must count once.
func inTime(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	for again := range 3 {
		short, cancel := context.WithTimeout(ctx, limit)
		begin := time.Now()
		err := f(short)
		cancel()
		if again == 2 || !isTimeout(err) || ctx.Err() != nil || time.Since(begin) < limit+late {
			return err
		}
	}
	panic("unreachable")
}

// done takes note of how a command ended, of which ctx was the caller's.
func (s *Store) done(ctx context.Context, op string, err error) error {
	result := "ok"
	switch _, refused := errors.AsType[redis.Error](err); {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled): // nobody wants it any more
		return err
	case isTimeout(err) || ctx.Err() != nil:
		result = "timeout"
	case refused:
		result = "refused"
	default:
		result = "failed"
	}
	if s.o.Observe != nil {
		s.o.Observe(op, result)
	}
	if err != nil && op != opPublish {
		s.found(err)
	}
	return err
}

// late is how much later than its time a deadline is noticed by a process that has
// too little of the processor.
const late = 50 * time.Millisecond

// The values of the label op.
const (
	opProbe   = "probe"
	opLook    = "look"
	opRestore = "restore"
	opLease   = "lease"
	opEnd     = "end"
	opPublish = "publish"
)

// Ops and Results are what Options.Observe is called with.
var (
	Ops     = []string{opProbe, opLook, opRestore, opLease, opEnd, opPublish}
	Results = []string{"ok", "timeout", "refused", "failed"}
)

// probe adopts the engine's salt, which it sets where there is none: the one that
// is known will do, unless somebody was faster.
func (s *Store) probe(ctx context.Context, limit time.Duration) error {
	var answer any
	err := inTime(ctx, limit, func(ctx context.Context) (err error) {
		answer, err = probeScript.Run(ctx, s.client, []string{saltKey}, s.vaults.offer()).Result()
		return err
	})
	if err = s.done(ctx, opProbe, err); err != nil {
		return err
	}
	s.vaults.adopt(saltOf(text(answer)))
	return nil
}

// A sight is what the engine had at one moment.
type sight struct {
	entry string // as it lies there
	state tokens.State
	time  time.Time // of the engine, not later than when it was asked
}

// look returns what the engine has of a.
func (s *Store) look(ctx context.Context, within time.Duration, a tokens.Account) (*vault, sight, error) {
	for range 4 { // a salt may change again while argon2id runs
		v, err := s.vaults.of(a, s.o.Key)
		if err != nil {
			return nil, sight{}, err
		}
		_, before := s.clock()
		answer, err := s.run(ctx, within, opLook, lookScript, []string{saltKey, v.entryKey}, 0)
		if err != nil {
			return nil, sight{}, err
		}
		_, after := s.clock()
		list, ok := answer.([]any)
		if !ok || len(list) != 4 {
			return nil, sight{}, errAnswer
		}
		switch salt := text(list[0]); {
		case salt == "":
			if err := s.probe(ctx, within); err != nil {
				return nil, sight{}, err
			}
			continue
		case string(saltOf(salt)) != string(v.salt):
			s.vaults.adopt(saltOf(salt))
			continue
		}
		now := sight{entry: text(list[1]), time: engineTime(list[2], list[3])}
		if now.entry == "" {
			return v, now, nil
		}
		plain, err := v.open(now.entry)
		if err == nil {
			wall, _ := s.clock()
			now.state, _, err = tokens.DecodeState(plain, now.time, wall)
		}
		if err != nil {
			s.warn(err)
			now.state = tokens.State{}
		}
		// It was asked for some time ago, and that is on no token's side.
		if t := now.state.Token; t != nil {
			t.Age += after - before
			if t.Age >= t.Lifetime {
				now.state.Token = nil
			}
		}
		return v, now, nil
	}
	return nil, sight{}, errAnswer
}

// restore writes back what the engine has lost, where known is more than it has.
func (s *Store) restore(ctx context.Context, within time.Duration, v *vault, now sight, known tokens.State) (sight, error) {
	if !known.NewerThan(now.state) {
		return now, nil
	}
	wall, _ := s.clock()
	entry := v.seal(known.Encode(now.time, wall))
	answer, err := s.run(ctx, within, opRestore, swapScript, []string{v.entryKey}, now.entry, entry, keptFor.Milliseconds())
	if err != nil {
		return now, err
	}
	if number(answer) == 1 {
		now.entry, now.state = entry, known
	}
	return now, nil
}

// lease takes the lease, or returns what is left of another's; less than 0: what
// was looked at has changed.
func (s *Store) lease(ctx context.Context, within time.Duration, v *vault, now sight, owner string, known tokens.State) (turn *tokens.Turn, held time.Duration, err error) {
	lasts := s.o.LoginTimeout + leaseMore
	wall, before := s.clock()
	answer, err := s.run(ctx, within, opLease, leaseScript, []string{v.entryKey, v.leaseKey, v.numberKey},
		now.entry, owner, lasts.Milliseconds(), v.number.Load(), keptFor.Milliseconds())
	if err != nil {
		return nil, 0, err
	}
	list, ok := answer.([]any)
	if !ok || len(list) != 4 {
		return nil, 0, errAnswer
	}
	switch number(list[0]) {
	case 0:
		return nil, max(time.Duration(number(list[1]))*time.Millisecond, 0), nil
	case 1:
	default:
		return nil, -1, nil
	}
	_, got := s.clock()
	v.number.Store(max(v.number.Load(), number(list[1]))) // one turn at a time here
	fence, at := strconv.FormatInt(number(list[1]), 10), engineTime(list[2], list[3])
	return &tokens.Turn{
		Common: true,
		Over: func() bool {
			w, e := s.clock()
			return w.Sub(wall) >= lasts || e-before >= lasts
		},
		End: func(st tokens.State, cut bool) {
			entry := ""
			if !cut && st.NewerThan(known) {
				w, e := s.clock()
				entry = v.seal(st.Encode(at.Add(e-got), w))
			}
			s.end(v, owner, fence, now.entry, entry)
		},
	}, 0, nil
}

// end gives the lease back, and puts an entry for was unless that is empty. What it
// sends twice counts once. Where the engine does not take it, others would wait for
// the lease's end: it is sent once more when the engine is there again, and somebody
// may have written what is newer by then.
func (s *Store) end(v *vault, owner, fence, was, entry string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*commandTimeout)
	defer cancel()
	args := []any{owner, fence, entry, keptFor.Milliseconds()}
	for range 2 {
		if s.giveBack(ctx, v, args...) == nil {
			return
		}
	}
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, s.o.LoginTimeout+leaseMore)
		defer cancel()
		if s.untilUp(ctx) == nil {
			_ = s.giveBack(ctx, v, append(args, was)...)
		}
	})
}

// giveBack runs endScript, and tells others that it is their turn.
func (s *Store) giveBack(ctx context.Context, v *vault, args ...any) error {
	answer, err := s.run(ctx, commandTimeout, opEnd, endScript, []string{v.entryKey, v.leaseKey, v.numberKey}, args...)
	if err == nil && number(answer) == 1 {
		short, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		_ = s.done(short, opPublish, s.client.Publish(short, v.channel, "1").Err())
	}
	return err
}

// warn tells once that an entry cannot be read: it is taken for none, and written
// over.
func (s *Store) warn(err error) {
	s.mu.Lock()
	warned := s.warned
	s.warned = true
	s.mu.Unlock()
	if !warned && s.o.Warn != nil {
		s.o.Warn(err)
	}
}

func text(answer any) string {
	s, _ := answer.(string)
	return s
}

// number reads an integer, which scripts may answer as text.
func number(answer any) int64 {
	switch n := answer.(type) {
	case int64:
		return n
	case string:
		i, _ := strconv.ParseInt(n, 10, 64)
		return i
	}
	return -1
}

func engineTime(seconds, micros any) time.Time {
	return time.Unix(number(seconds), number(micros)*1000)
}
