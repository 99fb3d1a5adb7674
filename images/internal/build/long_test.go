package build

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"edeploy/images/internal/role"
	"edeploy/images/manifest/archive"
	"edeploy/integration/needs"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// TestRealPackages builds a tree with Debian packages that make keys, names and
// numbers of one machine: two builds of it are the same, and two machines make
// different ones.
func TestRealPackages(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("takes minutes: EDEPLOY_LONG=1 runs it (make test-long)")
	}
	needs.Program(t, "mmdebstrap")
	needs.Program(t, "unshare")
	needs.Root(t) // enters the tree with chroot
	roles := t.TempDir()
	plant(t, roles, map[string]string{"many/role.yaml": "suite: bookworm\npackages: [open-iscsi, ssl-cert, popularity-contest, bind9, mdadm, munge, nvme-cli, udev, isc-dhcp-client, openssh-server, dbus, systemd-sysv]\n"})
	b := Build{Roles: role.Path{roles}, Image: wire.ImageRef{Role: "many", Version: "V1"}, Out: t.TempDir(), Epoch: time.Unix(1738281600, 0),
		Observe: func(e Event) { t.Log(e) }}
	r, err := b.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	f, err := os.Open(r.Archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tarred, err := archive.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	defer tarred.Close()
	if _, err := archive.Extract(t.Context(), tarred, tree, archive.Options{}); err != nil {
		t.Fatal(err)
	}
	paths := []string{"etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ecdsa_key", "etc/iscsi/initiatorname.iscsi", "etc/ssl/certs/ssl-cert-snakeoil.pem", "etc/ssl/private/ssl-cert-snakeoil.key",
		"etc/popularity-contest.conf", "etc/bind/rndc.key", "etc/munge/munge.key", "etc/nvme/hostnqn", "etc/nvme/hostid"}
	var machines [2]map[string]string
	for i := range machines {
		machines[i] = startMachine(t, tree, paths)
	}
	for _, p := range paths {
		if machines[0][p] == "" || machines[0][p] == machines[1][p] {
			t.Errorf("/%s: %q on one machine, %q on another one", p, machines[0][p], machines[1][p])
		}
	}
	var names []string
	scripts, err := os.ReadDir(filepath.Join(tree, role.MachineDir))
	for _, s := range scripts {
		names = append(names, s.Name())
	}
	if diff := cmp.Diff([]string{"bind9", "munge", "nvme-cli", "open-iscsi", "openssh-server", "popularity-contest", "ssl-cert"}, names); diff != "" || err != nil {
		t.Errorf("%v: scripts (-want +got):\n%s", err, diff)
	}
}

// TestShippedRolesTwice: two builds of the roles that come with the product are
// the same, each from packages or from the base that was built before.
func TestShippedRolesTwice(t *testing.T) {
	if os.Getenv("EDEPLOY_LONG") != "1" {
		t.Skip("takes minutes: EDEPLOY_LONG=1 runs it (make test-long)")
	}
	needs.Program(t, "mmdebstrap")
	out := t.TempDir()
	for _, name := range []string{"base", "mysql", "pxe"} {
		b := Build{Roles: role.Path{"../../roles"}, Image: wire.ImageRef{Role: name, Version: "V1"}, Out: out, Epoch: time.Unix(1738281600, 0),
			Observe: func(e Event) { t.Log(name, e) }}
		if _, err := b.Run(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// startMachine runs what a machine runs at its start, in a copy of the tree as
// it was built, and answers what it made.
func startMachine(t *testing.T, tree string, paths []string) map[string]string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if out, err := exec.Command("cp", "-a", tree, root).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for range 2 { // the second start finds everything there
		out, err := exec.Command("unshare", "--mount", "sh", "-euc",
			`mount --rbind /dev "$0/dev"; mount -t proc proc "$0/proc"; exec chroot "$0" /bin/run-parts `+role.MachineDir, root).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	sums := map[string]string{}
	for _, p := range paths {
		content, err := os.ReadFile(filepath.Join(root, p))
		if err != nil {
			t.Error(err)
			continue
		}
		sums[p] = fmt.Sprintf("%x", sha256.Sum256(content))
	}
	for _, p := range paths {
		if _, err := os.Lstat(filepath.Join(tree, p)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("/%s is in the tree: %v", p, err)
		}
	}
	return sums
}
