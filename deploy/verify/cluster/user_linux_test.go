package cluster_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const kubeconfig = `
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: admin}}]
contexts: [{name: test, context: {cluster: test, user: admin, namespace: %s}}]
current-context: test
`

// user is somebody with a folder and a namespace.
type user struct {
	t          *testing.T
	dir        string
	kubeconfig string // "": that of the environment
}

// try runs a script with the shell.
func (u *user) try(script string) (stdout, stderr string, err error) {
	var out, errors bytes.Buffer
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = u.dir, &out, &errors
	if u.kubeconfig != "" {
		cmd.Env = append(os.Environ(), "KUBECONFIG="+u.kubeconfig)
	}
	err = cmd.Run()
	return strings.TrimSpace(out.String()), strings.TrimSpace(errors.String()), err
}

// sh runs a script that must succeed and warn of nothing, and returns what it
// prints.
func (u *user) sh(script string) string {
	u.t.Helper()
	stdout, stderr, err := u.try(script)
	if err != nil || stderr != "" {
		u.t.Fatalf("%s\n%v\n%s\n%s", script, err, stderr, stdout)
	}
	return stdout
}

// newUser makes a namespace, where only restricted pods may be, and a folder
// with copies of these of deploy/.
func newUser(t *testing.T, dir, namespace string, folders ...string) *user {
	t.Helper()
	u := &user{t: t, dir: filepath.Join(dir, namespace), kubeconfig: filepath.Join(dir, namespace, "kubeconfig")}
	if err := os.Mkdir(u.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, u.kubeconfig, fmt.Sprintf(kubeconfig, namespace))
	u.sh("kubectl create namespace " + namespace)
	u.sh("kubectl label namespace " + namespace + " pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted")
	u.sh("kubectl wait --for=create serviceaccount default --timeout=1m") // of each pod
	for _, folder := range folders {
		if err := os.CopyFS(filepath.Join(u.dir, filepath.Base(folder)), os.DirFS(filepath.Join(deploy, folder))); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			stdout, stderr, _ := u.try("kubectl get all; kubectl describe pods | tail -n 80; kubectl get events")
			t.Logf("%s\n%s", stdout, stderr)
		}
	})
	return u
}

// startDeployment has the Deployment of that name in testdata run, and returns its
// pod's address.
func (u *user) startDeployment(name string) string {
	u.t.Helper()
	write(u.t, filepath.Join(u.dir, name+".yaml"), read(u.t, "testdata/"+name+".yaml"))
	u.sh("kubectl apply -f " + name + ".yaml")
	u.sh("kubectl rollout status deployment " + name + " --timeout=5m")
	return u.sh("kubectl get pods -o jsonpath='{.items[0].status.podIP}'")
}

// login puts a password into the folder, as README's commands want it.
func (u *user) login(sim *simulator, password string) {
	u.t.Helper()
	write(u.t, filepath.Join(u.dir, "username"), sim.username+"\n")
	write(u.t, filepath.Join(u.dir, "password"), password+"\n")
}

// applyAgain applies what has been applied, which must change nothing.
func (u *user) applyAgain(args string) {
	u.t.Helper()
	stdout, stderr, err := u.try("kubectl apply " + args)
	if err != nil {
		u.t.Fatalf("applied again: %v %s", err, stderr)
	}
	for line := range strings.Lines(stdout) {
		// Of these two kinds kubectl always sends a patch.
		if !strings.HasSuffix(strings.TrimSpace(line), " unchanged") && !strings.HasPrefix(line, "poddisruptionbudget") && !strings.HasPrefix(line, "statefulset") {
			u.t.Errorf("applied again: %s", line)
		}
	}
	got := u.sh("kubectl get " + args + " --no-headers -o custom-columns=:.metadata.generation")
	if strings.Trim(strings.ReplaceAll(got, "<none>", ""), "1\n ") != "" {
		u.t.Errorf("applied again: got the generations %s", got)
	}
}

// endOf deletes the pod of a workload, whose containers must end with 0, the
// sidecar last. It returns what the app wrote last.
func (u *user) endOf(selector string) string {
	u.t.Helper()
	pod := u.sh("kubectl get pods -o name -l " + selector)
	u.sh("kubectl patch " + pod + ` -p '{"metadata":{"finalizers":["example.org/seen"]}}'`) // so that its end can be seen
	u.sh("kubectl delete --wait=false " + pod)
	u.sh("kubectl wait --for=jsonpath='{.status.initContainerStatuses[0].state.terminated}' --timeout=2m " + pod)
	of := func(path string) string { return u.sh("kubectl get " + pod + " -o jsonpath='{.status." + path + "}'") }
	const app, sidecar = "containerStatuses[0].state.terminated.", "initContainerStatuses[0].state.terminated."
	if got := of(app+"exitCode") + " " + of(sidecar+"exitCode"); got != "0 0" {
		u.t.Errorf("%s: got the exit codes %s, want 0 0", pod, got)
	}
	if app, sidecar := of(app+"finishedAt"), of(sidecar+"finishedAt"); app > sidecar {
		u.t.Errorf("%s: the app ended at %s, and the sidecar before, at %s", pod, app, sidecar)
	}
	message := of(app + "message")
	u.sh("kubectl patch " + pod + ` -p '{"metadata":{"finalizers":null}}'`)
	return message
}
