package treepath_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edeploy/agent/internal/treepath"
	"edeploy/images/manifest/fstree"
)

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"usr/sbin", "usr/lib/ssl", "etc/ssl/certs", "run", "..odd"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"sbin": "usr/sbin", "usr/lib/ssl/certs": "/etc/ssl/certs", "var": "./nowhere", "srv": "/data/www", "up": "../../../../etc/./ssl",
		"a": "b/c", "b": "/a", "etc/link": "ssl/../ssl/certs/", "chain": "sbin", "etc/self": "self", "top": "/",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := fstree.Walk(t.Context(), dir, fstree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, place, target, err string }{
		{"/", ".", ".", ""},
		{"/../..", ".", ".", ""},
		{"/..odd/x", "..odd/x", "..odd/x", ""},
		{"/sbin", "sbin", "usr/sbin", ""},
		{"sbin/", "sbin", "usr/sbin", ""},
		{"/sbin/agent.key", "usr/sbin/agent.key", "usr/sbin/agent.key", ""},
		{"/chain/../x", "usr/x", "usr/x", ""},
		{"/usr/lib/ssl/certs/x.pem", "etc/ssl/certs/x.pem", "etc/ssl/certs/x.pem", ""},
		{"/usr/lib/ssl/certs", "usr/lib/ssl/certs", "etc/ssl/certs", ""},
		{"/var/a/b", "nowhere/a/b", "nowhere/a/b", ""},
		{"/srv/index", "data/www/index", "data/www/index", ""},
		{"/up/certs", "etc/ssl/certs", "etc/ssl/certs", ""},
		{"/etc/link", "etc/link", "etc/ssl/certs", ""},
		{"/top/sbin/x", "usr/sbin/x", "usr/sbin/x", ""},
		{"/none/at/all", "none/at/all", "none/at/all", ""},
		{"/etc/file", "etc/file", "etc/file", ""},
		{"/etc/file/x", "", "", "/etc/file is a file, not a directory"},
		{"/a/x", "", "", "leads in a circle"},
		{"/etc/self/x", "", "", "the symbolic link /etc/self -> self leads in a circle"},
	} {
		for kind, tree := range map[string]treepath.Tree{"disk": treepath.OnDisk(dir), "manifest": treepath.Of(m)} {
			place, err := tree.NoFollow(tt.name)
			target, err2 := tree.Target(tt.name)
			err = errors.Join(err, err2)
			if place != tt.place || target != tt.target || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s on %s: %q, %q, %v, want %q, %q, %q", tt.name, kind, place, target, err, tt.place, tt.target, tt.err)
			}
		}
	}
}
