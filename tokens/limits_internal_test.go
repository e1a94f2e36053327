package tokens

import (
	"testing"
	"time"
)

// One who asks each second, for ten minutes: a second apart at first, one a
// minute then, and the one that was asked for too early is due when it may be.
func TestOperatorLimit(t *testing.T) {
	var l operatorLimit
	var made []time.Duration
	for now := time.Duration(0); now < 10*time.Minute; now += 500 * time.Millisecond {
		if wait, ok := l.due(now); ok != (len(made) > 0 && l.pending) || ok && now+wait != l.earliest {
			t.Fatalf("at %v: due in %v, %v", now, wait, ok)
		}
		if !l.ask(now) {
			if wait, ok := l.due(now); !ok || wait <= 0 {
				t.Fatalf("at %v: refused, and due in %v, %v", now, wait, ok)
			}
			continue
		}
		l.spend(now)
		l.meet()
		made = append(made, now)
	}
	for i, at := range made {
		switch {
		case i == 0:
		case i < operatorBurst && at-made[i-1] != minBackoff, i >= operatorBurst && at < made[i-operatorBurst]+operatorEvery:
			t.Errorf("number %d after %v", i+1, at-made[i-1])
		}
	}
	if n := len(made); n < 13 || n > 14 {
		t.Errorf("got %d logins in ten minutes, want five and one a minute", n)
	}
	// Who waited long enough has all five again.
	if now := time.Hour; !l.ask(now) || l.pending {
		t.Error("refused after an hour")
	}
}

// A login that begins, whoever asked for it, is the one that was asked for.
func TestLimitsMeet(t *testing.T) {
	var o operatorLimit
	o.spend(0)
	if o.ask(0) || !o.pending {
		t.Error("two at once")
	}
	o.meet()
	if _, ok := o.due(time.Second); ok {
		t.Error("it is due once more")
	}

	var p proofLimit
	if _, ok := p.due(0); ok {
		t.Error("a login is earned by nothing")
	}
	p.earn(true)
	if wait, ok := p.due(0); !ok || wait > 0 {
		t.Errorf("the first is due in %v, %v", wait, ok)
	}
	p.meet(0)
	if _, ok := p.due(0); ok {
		t.Error("it is due once more")
	}
	p.earn(true)
	if wait, ok := p.due(10 * time.Second); !ok || wait != proofEvery-10*time.Second {
		t.Errorf("the second is due in %v, %v; want a minute after the first", wait, ok)
	}
	p.earn(false)
	if _, ok := p.due(time.Hour); ok {
		t.Error("it is due, though nothing earns it")
	}
}
