package pick_test

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edeploy/initrd/internal/pick"
	"edeploy/initrd/internal/tree"
	"edeploy/integration/needs"
)

func TestParseList(t *testing.T) {
	got, err := pick.ParseList("# tools\nusr/bin/sh # shell\n\n?usr/bin/ipmitool\nusr/lib/*/x/**\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []pick.Line{{Pattern: "usr/bin/sh"}, {Pattern: "usr/bin/ipmitool", Optional: true}, {Pattern: "usr/lib/*/x/**"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"x\n/usr/bin/sh", "x\n[a"} {
		if _, err := pick.ParseList(bad); err == nil || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%q: %v, want an error in line 2", bad, err)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"usr/sbin/lv*", "usr/sbin/lvm", true},
		{"usr/sbin/lv*", "usr/sbin/x/lvm", false},
		{"lib/*/net/**", "lib/6.1/net/a.ko", true},
		{"lib/*/net/**", "lib/6.1/net/a/b.ko", true},
		{"lib/*/net/**", "lib/6.1/net", false},
		{"usr/bin/[[]", "usr/bin/[", true},
	} {
		if got := (pick.Line{Pattern: test.pattern}).Matches(test.name); got != test.want {
			t.Errorf("%s matches %s: %v, want %v", test.pattern, test.name, got, test.want)
		}
	}
}

// FuzzParseList: lines that are accepted can be matched.
func FuzzParseList(f *testing.F) {
	f.Add("?usr/bin/[[] # x\nusr/**")
	f.Fuzz(func(t *testing.T, text string) {
		lines, err := pick.ParseList(text)
		if err != nil {
			return
		}
		for _, line := range lines {
			line.Matches("usr/bin/sh")
		}
	})
}

// The tree is this machine's: ldd, the real loader, says what a program needs.
func TestPickNeedsWhatLddSays(t *testing.T) {
	const program = "usr/bin/env"
	out, err := exec.Command("ldd", "/"+program).Output()
	needs.That(t, err == nil, "ldd: %v", err)
	files := map[string][]byte{program: read(t, "/"+program), "usr/bin/script": []byte("#! /usr/bin/env -S x\n"), "usr/lib/cgi.py": []byte("#! /usr/local/bin/python\n")}
	var libraries []string
	for _, word := range strings.Fields(string(out)) {
		if strings.HasPrefix(word, "/") {
			libraries = append(libraries, strings.TrimPrefix(word, "/"))
			files[word[1:]] = read(t, word)
		}
	}
	files["usr/lib/unneeded.so"] = files[libraries[0]]
	got, err := pick.Pick(treeOf(t, files), []pick.Line{{Pattern: "usr/bin/script"}, {Pattern: "usr/lib/cgi.py"}, {Pattern: "usr/bin/nothing", Optional: true}})
	if err != nil {
		t.Fatal(err)
	}
	want := append(libraries, program, "usr/bin/script", "usr/lib/cgi.py")
	slices.Sort(want)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("picked (-want +got):\n%s", diff)
	}
	for name := range files {
		if strings.Contains(name, "libc.so") {
			delete(files, name)
		}
	}
	_, err = pick.Pick(treeOf(t, files), []pick.Line{{Pattern: program}, {Pattern: "usr/sbin/lvm"}})
	if err == nil || !strings.Contains(err.Error(), program+": library libc.so.6: file does not exist") || !strings.Contains(err.Error(), "the tree has no usr/sbin/lvm") {
		t.Errorf("error %v, want both the missing library and the missing program", err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	real, err := filepath.EvalSymlinks(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(real)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func treeOf(t *testing.T, files map[string][]byte) *tree.Tree {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	dirs := map[string]bool{".": true}
	for name, data := range files {
		for dir := filepath.Dir(name); !dirs[dir]; dir = filepath.Dir(dir) {
			dirs[dir] = true
			w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755})
		}
		w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(data))})
		w.Write(data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tr, err := tree.Read(&out, func(string) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return tr
}
