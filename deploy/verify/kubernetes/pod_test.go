package kubernetes_test

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// namespace is where the pods of these tests are.
const namespace = "team-a"

func labelSet(of map[string]string) labels.Set { return labels.Set(of) }

// settingsOf is the environment that c gets from its manifest.
func settingsOf(objects []runtime.Object, c *corev1.Container) map[string]string {
	env := make(map[string]string)
	for _, from := range c.EnvFrom {
		for _, object := range objects {
			if m, ok := object.(*corev1.ConfigMap); ok && from.ConfigMapRef != nil && m.Name == from.ConfigMapRef.Name {
				maps.Copy(env, m.Data)
			}
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil && e.ValueFrom.FieldRef.FieldPath == "metadata.namespace" {
			e.Value = namespace
		}
		for name, value := range env { // those before it: Kubernetes knows no later ones
			e.Value = strings.ReplaceAll(e.Value, "$("+name+")", value)
		}
		env[e.Name] = e.Value
	}
	return env
}

// portOf is the port of a listener, or -1.
func portOf(listen string) int32 {
	_, text, _ := strings.Cut(listen, ":")
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return -1
	}
	return int32(port)
}

// numberOf is the number of a port of c, or 0.
func numberOf(c *corev1.Container, port intstr.IntOrString) int32 {
	if port.Type == intstr.Int {
		return port.IntVal
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return p.ContainerPort
		}
	}
	return 0
}

// secretAt is the volume that c has mounted at a folder, if that is a Secret.
func secretAt(pod *corev1.PodSpec, c *corev1.Container, folder string) *corev1.SecretVolumeSource {
	for _, mount := range c.VolumeMounts {
		i := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
		if i >= 0 && path.Clean(mount.MountPath) == path.Clean(folder) {
			return pod.Volumes[i].Secret
		}
	}
	return nil
}

// durationOf is a setting, or what bearerd takes without it.
func durationOf(env map[string]string, name string, unset time.Duration) time.Duration {
	d, err := time.ParseDuration(env[name])
	if err != nil {
		return unset
	}
	return d
}

// userOf is the user that c runs as.
func userOf(pod *corev1.PodSpec, c *corev1.Container) uint32 {
	if s := c.SecurityContext; s != nil && s.RunAsUser != nil {
		return uint32(*s.RunAsUser)
	}
	return uint32(*pod.SecurityContext.RunAsUser)
}

// groupOf is the group that c runs as.
func groupOf(pod *corev1.PodSpec, c *corev1.Container) uint32 {
	if s := c.SecurityContext; s != nil && s.RunAsGroup != nil {
		return uint32(*s.RunAsGroup)
	}
	return uint32(*pod.SecurityContext.RunAsGroup)
}
