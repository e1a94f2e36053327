package kubernetes_test

import (
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// violations are what the Pod Security Standard "restricted" forbids of a pod.
func violations(t *testing.T, pod *corev1.PodTemplateSpec) string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	if result.Allowed {
		return ""
	}
	return result.ForbiddenDetail()
}

func TestPodsAreRestricted(t *testing.T) {
	for _, folder := range []string{"base", "gateway", "shared"} {
		for _, w := range workloadsOf(rendered(t, filepath.Join(manifests, folder))) {
			if v := violations(t, w.template); v != "" {
				t.Errorf("%s: %s", w, v)
			}
		}
	}
}

// The sidecar adds no violation to a stranger's pod, whatever that one has.
func TestSidecarIsRestricted(t *testing.T) {
	before, after := rendered(t, "testdata/strangers/apps"), rendered(t, "testdata/strangers")
	for _, was := range workloadsOf(before) {
		is := named(t, after, was.String())
		if got, want := violations(t, is.template), violations(t, was.template); got != want {
			t.Errorf("%s: got %q, want %q as without bearerd", was, got, want)
		}
	}
}

func TestUnrestrictedPodsAreSeen(t *testing.T) {
	for want, mutate := range map[string]func(*corev1.PodTemplateSpec, *corev1.Container){
		"privileged":                func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.SecurityContext.Privileged = new(true) },
		"runAsNonRoot != true":      func(p *corev1.PodTemplateSpec, _ *corev1.Container) { p.Spec.SecurityContext.RunAsNonRoot = nil },
		"runAsUser=0":               func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.SecurityContext.RunAsUser = new(int64(0)) },
		"unrestricted capabilities": func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.SecurityContext.Capabilities = nil },
		"allowPrivilegeEscalation":  func(_ *corev1.PodTemplateSpec, c *corev1.Container) { c.SecurityContext.AllowPrivilegeEscalation = nil },
		"seccompProfile":            func(p *corev1.PodTemplateSpec, _ *corev1.Container) { p.Spec.SecurityContext.SeccompProfile = nil },
		"restricted volume types": func(p *corev1.PodTemplateSpec, _ *corev1.Container) {
			p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}
		},
		"host namespaces": func(p *corev1.PodTemplateSpec, _ *corev1.Container) { p.Spec.HostNetwork = true },
	} {
		pod := named(t, rendered(t, filepath.Join(manifests, "gateway")), "Deployment bearerd-gateway").template
		mutate(pod, bearerdOf(&pod.Spec))
		if got := violations(t, pod); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
