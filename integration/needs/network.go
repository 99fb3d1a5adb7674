package needs

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// inNamespace is set when the test runs in a network namespace of its own.
const inNamespace = "EDEPLOY_IN_NAMESPACE"

// Namespace runs the test once more, in a network namespace and with mounts of
// its own, and tells which run this is: outside, all is done.
func Namespace(t *testing.T, programs ...string) (inside bool) {
	t.Helper()
	if os.Getenv(inNamespace) == t.Name() {
		return true
	}
	Root(t)
	Programs(t, append(programs, "ip", "unshare", "nsenter")...)
	timeout := 10 * time.Minute
	if end, ok := t.Deadline(); ok {
		timeout = time.Until(end) - 10*time.Second // to tell about it
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+timeout.String())
	cmd.Env = append(os.Environ(), inNamespace+"="+t.Name())
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return false
}

// IP configures the network of the test's namespace (ip(8)).
func IP(t testing.TB, args ...string) {
	t.Helper()
	must(t, exec.Command("ip", args...))
}

// Neighbour is another network namespace, for the other ends of cables. It
// lives until the test ends.
type Neighbour struct{ PID string } // of a process in it, as ip(8) names a namespace

// NewNeighbour makes one.
func NewNeighbour(t testing.TB) Neighbour {
	t.Helper()
	// The namespace lives as long as a process in it, which lives as long as
	// the test holds its input.
	holder := exec.Command("unshare", "--net", "sh", "-c", "echo ready; cat")
	input, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		holder.Wait()
	})
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatalf("no second namespace: %v", err)
	}
	return Neighbour{strconv.Itoa(holder.Process.Pid)}
}

// Command is one that runs there.
func (n Neighbour) Command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--target", n.PID, "--net"}, args...)...)
}

// Run runs a command there, to its end.
func (n Neighbour) Run(t testing.TB, args ...string) {
	t.Helper()
	must(t, n.Command(t.Context(), args...))
}

func must(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}
