package tokens

import "testing"

func TestWatch(t *testing.T) {
	secret := func(text Secret) reading { return reading{credentials: credentials{clientSecret: text}} }
	asserts := func(text Secret) reading { return reading{credentials: credentials{assertion: text}} }
	missing := reading{problem: "it is missing"}
	rejected, waiting := &Failure{Kind: Rejected}, &Failure{Kind: Transient, Waiting: true}
	for name, test := range map[string]struct {
		tried, used, found reading
		failure            *Failure
		due                bool
		want               worth
	}{
		"the same":                     {secret("a"), secret("a"), secret("a"), rejected, true, worthNothing},
		"another, and all is well":     {secret("a"), secret("a"), secret("b"), nil, true, worthNothing},
		"another":                      {secret("a"), secret("a"), secret("b"), rejected, false, worthLogin},
		"another after a wait":         {missing, secret("a"), secret("b"), waiting, false, worthLogin},
		"back within the back-off":     {missing, secret("a"), secret("a"), waiting, false, worthNothing},
		"back after it":                {missing, secret("a"), secret("a"), waiting, true, worthLogin},
		"another assertion":            {asserts("a"), asserts("a"), asserts("b"), rejected, false, worthProof},
		"the same assertion":           {asserts("a"), asserts("a"), asserts("a"), rejected, false, worthNothing},
		"gone, with another problem":   {secret("a"), secret("a"), missing, waiting, false, worthLogin},
		"gone, as it was told":         {missing, secret("a"), missing, waiting, true, worthNothing},
		"gone, and the server refused": {secret("a"), secret("a"), missing, rejected, true, worthNothing},
	} {
		var h history
		h.use(test.used.credentials)
		w := watch{tried: &test.tried}
		if got := w.poll(test.found, &h, test.failure, test.due); got != worthNothing {
			t.Errorf("%s: the first look is worth %v, want nothing: a file may be half written", name, got)
		}
		if got := w.poll(test.found, &h, test.failure, test.due); got != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

// The back-off is of the credentials: others begin anew, a new proof does not,
// and what has worked is remembered.
func TestHistory(t *testing.T) {
	var h history
	old, other := credentials{clientSecret: "a", assertion: "1"}, credentials{clientSecret: "b"}
	h.use(old)
	h.succeeded()
	h.backoff.failed(Failure{Kind: Rejected}, -1)
	if h.use(credentials{clientSecret: "a", assertion: "2"}); h.backoff.rejections != 1 || !h.backoff.worked {
		t.Errorf("a new proof: got %+v", h.backoff)
	}
	if h.use(other); h.backoff.rejections != 0 || h.backoff.worked {
		t.Errorf("others: got %+v", h.backoff)
	}
	if h.use(old); h.backoff.rejections != 0 || !h.backoff.worked {
		t.Errorf("back again: got %+v", h.backoff)
	}
	if got := h.change(old); got != unchanged {
		t.Errorf("the same: got %v", got)
	}
}
