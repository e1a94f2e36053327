package kubernetes_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/bearerd/bearerd/deploy/verify/internal/testenv"
)

// A kubelet runs one container as the kubelet of Kubernetes does (its packages
// prober and probe/http): the first probe at once and then each period; one
// that takes longer than its time-out has failed; liveness and readiness wait
// for the startup probe; a result counts when it has come as often in a row as
// its threshold says; a startup or liveness probe that failed so ends the
// container, and so does its own end. Then it is started again, after 10 s that
// double up to 5 min.
type kubelet struct {
	container *corev1.Container
	address   string        // of the pod, where the probes go
	grace     time.Duration // between SIGTERM and SIGKILL
	start     func() (*testenv.Process, error)

	mu       sync.Mutex // guards what follows
	restarts []string   // why, each
	probes   []probeResult
	started  chan struct{} // closed when the startup probe has passed, or there is none
	ready    bool
	exit     int // of the last process
}

type probeResult struct {
	kind   string
	at     time.Time
	status int // 0: no answer in time
}

func (r probeResult) ok() bool { return r.status >= 200 && r.status < 400 }

// run keeps the container running until ctx ends, stops it then, and returns.
func (k *kubelet) run(ctx context.Context) error {
	for backoff := 10 * time.Second; ; backoff = min(2*backoff, 5*time.Minute) {
		p, err := k.start()
		if err != nil {
			return err
		}
		probing, stop := context.WithCancel(ctx)
		failed := make(chan string, 3)
		var probers sync.WaitGroup
		probers.Go(func() { k.probeAll(probing, failed) })
		var why string
		select {
		case <-ctx.Done():
		case why = <-failed:
		case <-p.Ended:
			why = "it ended"
		}
		stop()
		probers.Wait()
		exit := p.Stop(syscall.SIGTERM, k.grace)
		k.mu.Lock()
		k.exit, k.ready = exit, false
		if why != "" {
			k.restarts = append(k.restarts, why)
		}
		k.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff):
		}
	}
}

// probeAll probes one process until ctx ends or a probe has failed it.
func (k *kubelet) probeAll(ctx context.Context, failed chan<- string) {
	if p := k.container.StartupProbe; p != nil && !k.probe(ctx, "startup", p, nil) {
		if ctx.Err() == nil {
			failed <- "startup"
		}
		return
	}
	k.mu.Lock()
	select {
	case <-k.started:
	default:
		close(k.started)
	}
	k.ready = k.container.ReadinessProbe == nil
	k.mu.Unlock()
	var wg sync.WaitGroup
	if p := k.container.LivenessProbe; p != nil {
		wg.Go(func() {
			k.probe(ctx, "liveness", p, func(ok bool) bool { return ok })
			if ctx.Err() == nil {
				failed <- "liveness"
			}
		})
	}
	if p := k.container.ReadinessProbe; p != nil {
		wg.Go(func() {
			k.probe(ctx, "readiness", p, func(ok bool) bool {
				k.mu.Lock()
				k.ready = ok
				k.mu.Unlock()
				return true
			})
		})
	}
	wg.Wait()
}

// probe probes until a result counts and goOn says no to it; nil says no to
// each. It returns the last that counted.
func (k *kubelet) probe(ctx context.Context, kind string, p *corev1.Probe, goOn func(ok bool) bool) (ok bool) {
	orDefault := func(n, unset int32) int { // of the API server
		if n == 0 {
			n = unset
		}
		return int(n)
	}
	period := time.Duration(orDefault(p.PeriodSeconds, 10)) * time.Second
	client := &http.Client{
		Timeout:       time.Duration(orDefault(p.TimeoutSeconds, 1)) * time.Second,
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	url := fmt.Sprintf("http://%s:%d%s", k.address, numberOf(k.container, p.HTTPGet.Port), p.HTTPGet.Path)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Duration(p.InitialDelaySeconds) * time.Second):
	}
	var last bool
	inARow := 0
	for tick := time.NewTicker(period); ; {
		result := probeResult{kind: kind, at: time.Now()}
		if req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil); err == nil {
			req.Header.Set("User-Agent", "kube-probe/1.34")
			if resp, err := client.Do(req); err == nil {
				_ = resp.Body.Close()
				result.status = resp.StatusCode
			}
		}
		if ctx.Err() != nil {
			return false
		}
		k.mu.Lock()
		k.probes = append(k.probes, result)
		k.mu.Unlock()
		if ok := result.ok(); ok == last {
			inARow++
		} else {
			last, inARow = ok, 1
		}
		enough := orDefault(p.FailureThreshold, 3)
		if last {
			enough = orDefault(p.SuccessThreshold, 1)
		}
		if inARow >= enough && (goOn == nil || !goOn(last)) {
			return last
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// seen returns how often a probe of that kind passed and failed, and the
// statuses that it saw.
func (k *kubelet) seen(kind string) (passed, failed int, statuses map[int]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	statuses = make(map[int]bool)
	for _, r := range k.probes {
		if r.kind != kind {
			continue
		}
		statuses[r.status] = true
		if r.ok() {
			passed++
		} else {
			failed++
		}
	}
	return passed, failed, statuses
}

func (k *kubelet) restarted() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string(nil), k.restarts...)
}
