package role_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/images/internal/role"

	"github.com/google/go-cmp/cmp"
)

// The roles that come with the product are read as they are.
func TestShippedRoles(t *testing.T) {
	roles, err := (role.Path{"../../roles"}).List()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range roles {
		if r.Description == "" {
			t.Errorf("role %s has no description", r.Name)
		}
		if _, err := (role.Path{"../../roles"}).Chain(r.Name); err != nil {
			t.Errorf("role %s: %v", r.Name, err)
		}
		got[r.Name] = r.Bootable
	}
	if diff := cmp.Diff(map[string]bool{"base": true, "mysql": true, "pxe": false}, got); diff != "" {
		t.Errorf("roles and whether they boot (-want +got):\n%s", diff)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name, "role.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "suite: bookworm\npakages: [a]\n", "pakages"},
		{"neither", "description: x\n", "either suite or base"},
		{"both", "suite: bookworm\nbase: base\n", "either suite or base"},
		{"suite", "suite: book worm\n", "not the name of a Debian suite"},
		{"option for a package", "suite: bookworm\npackages: [--force-yes]\n", "not a package name"},
		{"shell in a package", "suite: bookworm\npackages: ['a; reboot']\n", "not a package name"},
		{"shell in the kernel", "suite: bookworm\nkernel: $(reboot)\n", "not a package name"},
		{"user", "suite: bookworm\nusers: [{name: 'a:b', uid: 5, gid: 5, home: /, shell: /bin/sh}]\n", "not an account name"},
		{"root user", "suite: bookworm\nusers: [{name: a, uid: 0, gid: 5, home: /, shell: /bin/sh}]\n", "want 1 to 65533"},
		{"home", "suite: bookworm\nusers: [{name: a, uid: 5, gid: 5, home: '/a:b', shell: /bin/sh}]\n", "clean absolute paths"},
		{"program", "suite: bookworm\nprograms: [{package: a/b, path: usr/bin/b}]\n", "clean absolute path"},
		{"option for a program", "suite: bookworm\nprograms: [{package: -exec, path: /usr/bin/b}]\n", "want a Go package"},
		{"remove everything", "suite: bookworm\nremove: [/]\n", "clean absolute path"},
		{"remove outside", "suite: bookworm\nremove: [/../etc]\n", "clean absolute path"},
		{"shell in remove", "suite: bookworm\nremove: ['/a;reboot']\n", "clean absolute path"},
		{"exclude", "suite: bookworm\nexclude: [\"a\\nb\"]\n", "want one pattern"},
		{"change of nothing", "suite: bookworm\nchanged: [{post: x}]\n", "no packages are named"},
		{"change without consequence", "suite: bookworm\nchanged: [{packages: [x]}]\n", "nothing is to be done for x"},
		{"change of a pattern", "suite: bookworm\nchanged: [{packages: [-x], post: y}]\n", "neither a name nor a pattern"},
		{"script outside", "suite: bookworm\nmachine: [{name: ../x, paths: [/a]}]\n", "small letters, digits and dashes"},
		{"nothing of a machine", "suite: bookworm\nmachine: [{name: x}]\n", "give the paths"},
		{"made, but when", "suite: bookworm\nmachine: [{name: x, clean: z, make: y}]\n", "make needs paths"},
		{"edited pattern", "suite: bookworm\nmachine: [{name: x, edited: [/a*], make: y}]\n", "takes no patterns"},
		{"edited by nobody", "suite: bookworm\nmachine: [{name: x, edited: [/a]}]\n", "edited needs make"},
		{"shell in a path", "suite: bookworm\nmachine: [{name: x, paths: ['/a;b']}]\n", "clean absolute path"},
		{"end of the script", "suite: bookworm\nmachine: [{name: x, paths: [/a], make: END_OF_MACHINE}]\n", "a meaning of its own"},
		{"shell in shared", "suite: bookworm\nshared: ['/a;b']\n", "clean absolute path"},
		{"not yaml", "{", "role.yaml"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "r", tt.text)
			if _, err := (role.Path{dir}).Load("r"); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestChain(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a", "suite: bookworm\n")
	write(t, dir, "b", "base: a\n")
	write(t, dir, "c", "base: b\n")
	write(t, dir, "x", "base: y\n")
	write(t, dir, "y", "base: x\n")
	write(t, dir, "orphan", "base: nobody\n")
	chain, err := (role.Path{dir}).Chain("c")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range chain {
		names = append(names, d.Name)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names); diff != "" {
		t.Errorf("chain (-want +got):\n%s", diff)
	}
	if _, err := (role.Path{dir}).Chain("x"); err == nil || !strings.Contains(err.Error(), "based on itself") {
		t.Errorf("circle: %v", err)
	}
	for _, name := range []string{"orphan", "nobody"} {
		if _, err := (role.Path{dir}).Chain(name); !errors.Is(err, role.ErrUnknown) {
			t.Errorf("%s: %v, want ErrUnknown", name, err)
		}
	}
	if _, err := (role.Path{dir}).Load("../a"); err == nil {
		t.Error("a role name that climbs is accepted")
	}
}

// One's own directory comes before the product's: a version there needs no
// role.yaml, and a role.yaml there takes the place of the other with its versions.
func TestPath(t *testing.T) {
	own, product := t.TempDir(), t.TempDir()
	version := func(dir, name, text string) {
		t.Helper()
		dir = filepath.Join(dir, name, "files", "etc")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "../../version.yaml"), []byte("description: "+text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(t, product, "base", "description: product\nsuite: bookworm\n")
	write(t, product, "web", "description: product\nbase: base\n")
	write(t, own, "web", "description: own\nbase: base\n")
	version(own, "base/versions/V2", "own")
	version(product, "base/versions/V1", "product")
	version(product, "base/versions/V2", "product")
	version(product, "web/versions/V1", "product")
	p := role.Path{own, product}
	base, err := p.Load("base")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"V1": "product", "V2": "own", "V3": ""} {
		v, err := base.LoadVersion(name)
		if err != nil || v.Description != want || (v.Files() == "") != (want == "") {
			t.Errorf("base %s: %q, files %q, %v, want %q", name, v.Description, v.Files(), err, want)
		}
	}
	chain, err := p.Chain("web")
	if err != nil || len(chain) != 2 || chain[1].Description != "own" {
		t.Errorf("chain %+v, %v", chain, err)
	}
	var got []string
	roles, err := p.List()
	for _, d := range roles {
		versions, versionsErr := d.Versions()
		err = errors.Join(err, versionsErr)
		got = append(got, d.Name+" "+strings.Join(versions, " "))
	}
	if diff := cmp.Diff([]string{"base V1 V2", "web "}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	version(own, "nobody/versions/V1", "own")
	if _, err := p.List(); !errors.Is(err, role.ErrUnknown) {
		t.Errorf("a version without a role: %v", err)
	}
}
