package querysim

import "time"

// What a Keycloak's realm has by default once its brute-force detection is on.
const (
	lockFailures  = 30               // failureFactor
	lockWait      = 60               // waitIncrementSeconds
	lockQuickWait = 60               // minimumQuickLoginWaitSeconds
	lockMaxWait   = 900              // maxFailureWaitSeconds
	lockQuick     = 1000             // quickLoginCheckMilliSeconds
	lockForget    = 12 * 3600 * 1000 // maxDeltaTimeSeconds, in milliseconds
)

// bruteForceLock is what a Keycloak keeps of one user's failed logins, after
// its DefaultBruteForceProtector with the strategy "multiple". Only a wrong
// password of a known user is a failure; an attempt while the account is
// locked is none.
type bruteForceLock struct {
	failures  int
	last      int64 // failure, in Unix milliseconds; 0: none
	notBefore int64 // the end of the lock, in Unix seconds
}

// locked compares whole seconds, as a Keycloak does, so a lock set at .9 s is
// over .9 s early.
func (l *bruteForceLock) locked(now time.Time) bool { return now.Unix() < l.notBefore }

// fail counts one failure and reports whether it locks the account.
func (l *bruteForceLock) fail(now time.Time) bool {
	ms := now.UnixMilli()
	last, since := l.last, int64(0)
	if last > 0 {
		since = ms - last
	}
	l.last = max(last, ms)
	if since > lockForget {
		// This forgets the failure under way too, as in clearFailures: the next
		// one is not quick after it.
		*l = bruteForceLock{}
	}
	l.failures++
	wait := lockWait * (l.failures / lockFailures)
	if wait == 0 && last > 0 && since < lockQuick {
		wait = lockQuickWait
	}
	if wait == 0 {
		return false
	}
	l.notBefore = max(l.notBefore, now.Unix()+int64(min(wait, lockMaxWait)))
	return true
}

// LockAccount sets Faults.BruteForceLock and gives each login server that is a
// Keycloak two wrong passwords at once, as if from somebody else: the account is
// locked there. It does not count as a login.
func (s *Simulator) LockAccount() {
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.BruteForceLock = true
	for _, v := range vendors {
		for range 2 {
			if v.keycloak {
				_ = s.tryUser(v, now, false)
			}
		}
	}
}

// tryUser notes an attempt to log in with the right password or a wrong one, and
// reports whether the account was locked already. It needs s.mu.
func (s *Simulator) tryUser(v Vendor, now time.Time, right bool) (locked bool) {
	lock := s.locks[v.Name]
	switch {
	case lock.locked(now):
		return true
	case right:
		lock = bruteForceLock{}
	case lock.fail(now):
		s.stats.Lockouts++
	}
	s.locks[v.Name] = lock
	return false
}
