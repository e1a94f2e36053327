package cluster_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var programs = flag.String("programs", "", "folder that Kubernetes' programs are built in")

// TestCluster builds Kubernetes and the images, and does on a cluster of one
// node what deploy/README.md says. The cluster is in this program run again, with
// network, processes and mounts of its own, and ends with it.
func TestCluster(t *testing.T) {
	if *programs == "" {
		t.Skip("wants -programs, as `make cluster` has it: to build Kubernetes takes half an hour")
	}
	if dir := os.Getenv("BEARERD_TEST_CLUSTER"); dir != "" {
		testCluster(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Fatal("wants root")
	}
	for _, program := range []string{"/usr/bin/containerd", "/usr/sbin/runc", cniPlugins + "/bridge", "/usr/bin/unshare", "/sbin/ip", "/usr/bin/openssl", "/usr/bin/curl"} {
		if _, err := os.Stat(program); err != nil {
			t.Fatalf("%v (Debian's docker.io, containernetworking-plugins, util-linux, iproute2, openssl, curl)", err)
		}
	}
	dir, err := os.MkdirTemp("", "bearerd-cluster-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	folder, err := filepath.Abs(*programs)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	build(t, folder)
	saveImages(t, filepath.Join(dir, "images"))
	crds := filepath.Join(module(t, "github.com/prometheus-operator/prometheus-operator@"+operator), "example/prometheus-operator-crd")
	if err := os.CopyFS(filepath.Join(dir, "crds"), os.DirFS(crds)); err != nil {
		t.Fatal(err)
	}

	makeCgroups(t, filepath.Base(dir))
	again := exec.Command("/usr/bin/unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		os.Args[0], "-test.run=^TestCluster$", "-test.v", "-test.timeout=1h", "-programs="+folder)
	again.Env = append(os.Environ(), "BEARERD_TEST_CLUSTER="+dir)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := again.Run(); err != nil {
		t.Fatal(err)
	}
}

const (
	cniPlugins = "/usr/lib/cni"
	node       = "10.88.0.1" // its address, also in cni.conflist
)

// startCluster starts a cluster, which has the namespaces of this process to
// itself, with its files in dir. It returns when the node is ready.
func startCluster(t *testing.T, dir string) {
	t.Helper()
	for _, folder := range []string{"/run", "/var/lib", "/var/log"} {
		if err := os.MkdirAll(dir+folder, 0o755); err != nil {
			t.Fatal(err)
		}
		mount(t, dir+folder, folder)
	}
	// The kubelet changes these, and would for the whole machine.
	for _, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"} {
		setting, own := "/proc/sys/"+name, "/run/"+filepath.Base(name)
		write(t, own, read(t, setting))
		mount(t, own, setting)
	}
	t.Setenv("PATH", *programs+":/usr/sbin:/usr/bin:/sbin:/bin")
	t.Setenv("KUBECONFIG", "/run/kubeconfig")
	write(t, "/run/kubeconfig", fmt.Sprintf(kubeconfig, "default"))
	write(t, "/run/tokens", "admin,admin,admin,system:masters\n")
	u := &user{t: t, dir: dir}
	u.sh("openssl ecparam -genkey -name prime256v1 -noout -out /run/key")
	u.sh("ip link set lo up; ip link add pods type bridge; ip address add " + node + "/16 dev pods; ip link set pods up")

	start(t, "etcd", "--data-dir=/var/lib/etcd")
	start(t, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--bind-address=127.0.0.1", "--advertise-address="+node,
		"--service-cluster-ip-range=10.89.0.0/16", "--kubelet-preferred-address-types=InternalIP", "--authorization-mode=RBAC", "--token-auth-file=/run/tokens",
		"--service-account-issuer=https://kubernetes", "--service-account-key-file=/run/key", "--service-account-signing-key-file=/run/key")
	eventually(t, 5*time.Minute, "the API server is ready", func() bool { _, _, err := u.try("kubectl get --raw=/readyz"); return err == nil })
	start(t, "kube-controller-manager", "--kubeconfig=/run/kubeconfig", "--service-account-private-key-file=/run/key", "--root-ca-file=/run/kubernetes/apiserver.crt")
	start(t, "kube-scheduler", "--kubeconfig=/run/kubeconfig")

	if err := os.CopyFS("/run/node", os.DirFS("testdata/node")); err != nil {
		t.Fatal(err)
	}
	start(t, "containerd", "--config=/run/node/containerd.toml")
	eventually(t, time.Minute, "containerd answers", func() bool { _, _, err := u.try("ctr version"); return err == nil })
	u.sh("ctr --namespace=k8s.io images import images")
	write(t, "/run/kubelet.yaml", read(t, "/run/node/kubelet.yaml")+"cgroupRoot: /"+filepath.Base(dir)+"\n")
	start(t, "kubelet", "--config=/run/kubelet.yaml", "--kubeconfig=/run/kubeconfig", "--hostname-override=node", "--node-ip="+node)
	u.sh("kubectl wait --for=create node/node --timeout=5m")
	u.sh("kubectl wait --for=condition=Ready node/node --timeout=5m")
}

// mount has source at target too.
func mount(t *testing.T, source, target string) {
	t.Helper()
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mounting %s: %v", target, err)
	}
}

// start runs a program until the test ends.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	log, err := os.Create("/var/log/" + name + ".log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text := read(t, log.Name())
			t.Logf("the log of %s ends with\n%s", name, text[max(0, len(text)-2000):])
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for tick := time.NewTicker(200 * time.Millisecond); ; <-tick.C {
		if ok() {
			tick.Stop()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
