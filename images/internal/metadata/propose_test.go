package metadata_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/internal/metadata"
	"edeploy/images/internal/role"
	"edeploy/images/manifest"
	"edeploy/server/wire"

	"github.com/google/go-cmp/cmp"
)

// tree is a manifest of files whose content is their size; names with a slash
// at the end are directories.
func tree(t *testing.T, sizes map[string]int64) *manifest.Manifest {
	t.Helper()
	entries := []manifest.Entry{{Path: ".", Type: manifest.Dir, Mode: 0o755}}
	seen := map[string]bool{".": true}
	for name, size := range sizes {
		for dir := filepath.Dir(name); !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			entries = append(entries, manifest.Entry{Path: dir, Type: manifest.Dir, Mode: 0o755})
		}
		entries = append(entries, manifest.Entry{Path: name, Type: manifest.File, Mode: 0o644, Size: size, SHA256: [32]byte{byte(size)}})
	}
	m, err := manifest.New(entries)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func question(t *testing.T) metadata.Question {
	return metadata.Question{
		From: wire.ImageRef{Role: "db", Version: "V1"}, To: wire.ImageRef{Role: "db", Version: "V2"},
		Before: metadata.Tree{Manifest: tree(t, map[string]int64{"usr/bin/db": 1, "etc/db.conf": 1, "etc/gone": 1, "usr/lib/systemd/system/db.service": 1}),
			Packages: map[string]string{"db-server": "1", "linux-image-x": "6.1", "same": "1"}},
		After: metadata.Tree{Manifest: tree(t, map[string]int64{"usr/bin/db": 2, "etc/db.conf": 2, "etc/young": 1, "usr/lib/systemd/system/db.service": 2,
			"var/lib/db/schema": 1, "etc/network/new": 1, "home/db/a[b": 1, "home/db/c": 1, "usr/lib/edeploy/machine.d/db": 1}),
			Packages: map[string]string{"db-server": "2", "linux-image-y": "6.12", "same": "1"}},
		Chain: []role.Definition{
			{Name: "base", Exclude: []string{"/etc/network/", "/home/"}, Changed: []role.Change{
				{Packages: []string{"linux-image-*"}, Post: "update-grub", Reboot: true}, {Packages: []string{"same"}, Post: "never", Reboot: true}}},
			{Name: "db", Exclude: []string{"/var/lib/db/", "/home/"}, Changed: []role.Change{
				{Packages: []string{"db-server"}, Pre: "db dump", Post: "restart db\ndb upgrade\n"}}},
		},
		Machines: []role.Machine{{Name: "db", Paths: []string{"/etc/db.key"}, Edited: []string{"/etc/db.id"}}, {Name: "other", Paths: []string{"/etc/other"}}},
		Versions: []role.Version{{Name: "V1", Exclude: []string{"/srv/"}, Post: "never"}, {Name: "V2", Post: "tell people"}},
		Differing: []metadata.Deviation{{Path: "home/me", How: []string{"extra"}}, {Path: "etc/db.conf", How: []string{"size", "sha256digest"}},
			{Path: "etc/gone", How: []string{"mode"}}, {Path: "etc/a[1]\n", How: []string{"extra"}}, {Path: "etc/young", How: []string{"extra"}}},
	}
}

func TestPropose(t *testing.T) {
	want := map[string]string{
		"exclude": `# What the upgrade of db V1 to V2 leaves alone, neither changing nor deleting:
# patterns as in rsync(1), the first one that fits decides.

# role base
/etc/network/
/home/

# role db
/var/lib/db/

# made by each machine for itself
/etc/db.key
/etc/db.id

# version V1
/srv/

# differs on a machine (size, sha256digest) and in V2: while this line is here, the new one does not arrive
/etc/db.conf

# differs on a machine (mode) and is gone in V2: while this line is here, it stays
/etc/gone

# differs on a machine (extra)
/etc/a\[1]?

# differs on a machine (extra) and is new in V2: while this line is here, the machine's own stays
/etc/young
`,
		"add_only": `# What the upgrade of db V1 to V2 adds where exclude leaves everything alone,
# when the machine has nothing of this name: rules as in rsync(1), the first one that
# fits decides. The last line must stay, or every excluded path that is missing is added.

# new directories and files that programs expect below /var; in this version:
#   /var/lib/db/schema
+ /var/
+ /var/**

# new in this version, in directories of users
+ /home/
+ /home/db/
+ /home/db/a\[b
+ /home/db/c

# nothing else; new below excluded paths and not added, for which a rule like "+ /etc/" for each
# directory and one for the path would be needed:
#   /etc/network/new
#   /etc/young
- *
`,
		"pre": `#!/bin/sh
# Before db V1 becomes V2. Another exit status than 0 ends the upgrade, nothing is changed yet.
set -eu

# role db: db-server 1 -> 2
db dump
`,
		"post": `#!/bin/sh
# After db V1 has become V2. Exit status 0 is good, 100 is good and asks for a reboot;
# after any other one the upgrade is undone.
set -eu

# units differ, /usr/lib/systemd/system/db.service for one
systemctl daemon-reload

# role base: linux-image-x 6.1 -> none, linux-image-y none -> 6.12
update-grub

# role db: db-server 1 -> 2
restart db
db upgrade

# version V2
tell people

# a new start of the machine: linux-image-* (role base)
exit 100
`,
	}
	if diff := cmp.Diff(want, metadata.Propose(question(t))); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// Where nothing differs no script is needed.
func TestProposeWithoutChanges(t *testing.T) {
	q := question(t)
	q.After, q.Versions, q.Differing = q.Before, nil, nil
	got := metadata.Propose(q)
	if len(got) != 2 || strings.Contains(got["exclude"], "differs") || strings.Contains(got["add_only"], "#   /") {
		t.Errorf("files %v", got)
	}
}

// What is proposed is accepted, and files are written over as long as nobody
// changed them.
func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "V1", "db", "V2")
	files := metadata.Propose(question(t))
	write := func(force bool) map[string]metadata.Outcome {
		t.Helper()
		got, err := metadata.Write(dir, files, force)
		if err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		if err := metadata.Check(root); err != nil {
			t.Error(err)
		}
		return got
	}
	expect := func(what string, got, want map[string]metadata.Outcome) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	type all = map[string]metadata.Outcome
	expect("first", write(false), all{"exclude": "written", "add_only": "written", "pre": "written", "post": "written"})
	expect("again", write(false), all{"exclude": "unchanged", "add_only": "unchanged", "pre": "unchanged", "post": "unchanged"})
	for _, name := range []string{"exclude", "post"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("# mine\n"); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	delete(files, "pre")
	delete(files, "post")
	files["add_only"] += "# more\n"
	expect("edited", write(false), all{"exclude": "edited", "add_only": "written", "pre": "removed", "post": "edited"})
	expect("forced", write(true), all{"exclude": "written", "add_only": "unchanged", "post": "removed"})
}
