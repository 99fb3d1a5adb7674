package plan_test

import (
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"edeploy/images/manifest"

	"golang.org/x/sys/unix"
)

// cases is how many upgrades the comparison makes; UPGRADE_CASES=2000 makes more.
func cases() int {
	n, err := strconv.Atoi(os.Getenv("UPGRADE_CASES"))
	if err != nil || n <= 0 {
		return 100
	}
	return n
}

// thing is one generated path. What differs in content differs in size.
type thing struct {
	kind    manifest.Type
	content int
	mode    os.FileMode
	owner   int
	day     int // of the time
}

var kinds = []manifest.Type{manifest.Dir, manifest.Dir, manifest.Dir, manifest.File, manifest.File, manifest.File, manifest.Symlink, manifest.Fifo}

func newThing(r *rand.Rand, depth int) thing {
	x := thing{kind: kinds[r.IntN(len(kinds))], content: r.IntN(4), mode: []os.FileMode{0o755, 0o700, 0o4755}[r.IntN(3)], day: r.IntN(3)}
	if depth == 4 && x.kind == manifest.Dir {
		x.kind = manifest.File
	}
	if os.Geteuid() == 0 && r.IntN(4) == 0 {
		x.owner = 1234
	}
	x.day += 10 * x.content // another content has another time, as rsync needs it
	return x
}

var names = []string{"a", "b", "ab", "c", "etc", "var", "log", "a.b", "x y", "é"}

func grow(r *rand.Rand, paths map[string]thing, dir string, depth int) {
	for range 1 + r.IntN(4) {
		name := path.Join(dir, names[r.IntN(len(names))])
		if _, ok := paths[name]; ok {
			continue
		}
		paths[name] = newThing(r, depth)
		if paths[name].kind == manifest.Dir {
			grow(r, paths, name, depth+1)
		}
	}
}

// drop removes a path and all below it.
func drop(paths map[string]thing, name string) {
	maps.DeleteFunc(paths, func(p string, _ thing) bool { return p == name || strings.HasPrefix(p, name+"/") })
}

// vary answers another version of a tree: paths gone, changed, new.
func vary(r *rand.Rand, old map[string]thing) map[string]thing {
	paths := maps.Clone(old)
	for _, name := range slices.Sorted(maps.Keys(old)) {
		x, ok := paths[name]
		depth := strings.Count(name, "/")
		switch r.IntN(10) {
		case 0:
			drop(paths, name)
		case 1:
			if ok {
				drop(paths, name)
				paths[name] = newThing(r, depth)
			}
		case 2:
			if ok {
				x.day, x.mode = x.day+1, []os.FileMode{0o755, 0o711}[r.IntN(2)]
				paths[name] = x
			}
		}
		if x := paths[name]; x.kind == manifest.Dir && r.IntN(3) == 0 {
			grow(r, paths, name, depth+1)
		}
	}
	grow(r, paths, ".", 0)
	return paths
}

func makeThing(t testing.TB, name string, x thing) {
	var err error
	switch x.kind {
	case manifest.Dir:
		err = os.Mkdir(name, 0o700)
	case manifest.File:
		err = os.WriteFile(name, []byte(strings.Repeat(strconv.Itoa(x.content), x.content)), 0o600)
	case manifest.Symlink:
		err = os.Symlink(strings.Repeat("l", 1+x.content), name)
	case manifest.Fifo:
		err = unix.Mkfifo(name, 0o600)
	}
	must(t, err)
}

func makeTree(t testing.TB, root string, paths map[string]thing) {
	sorted := slices.Sorted(maps.Keys(paths))
	for _, name := range sorted {
		makeThing(t, filepath.Join(root, name), paths[name])
	}
	for _, name := range slices.Backward(sorted) {
		x, full := paths[name], filepath.Join(root, name)
		if x.owner != 0 {
			must(t, os.Lchown(full, x.owner, x.owner))
		}
		if x.kind != manifest.Symlink {
			must(t, unix.Chmod(full, uint32(x.mode)))
		}
		when := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9 + int64(x.day)*86400}}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, full, when, unix.AT_SYMLINK_NOFOLLOW))
	}
	must(t, os.Chtimes(root, time.Unix(1e9, 0), time.Unix(1e9, 0)))
}

// rules makes a rule file from the paths of both trees.
func rules(r *rand.Rand, paths []string, addOnly bool) string {
	var b strings.Builder
	for range r.IntN(5) {
		name := paths[r.IntN(len(paths))]
		if r.IntN(3) == 0 {
			name = path.Base(name)
		} else if r.IntN(2) == 0 {
			name = "/" + name
		}
		if elements := strings.Split(name, "/"); r.IntN(4) == 0 {
			elements[len(elements)-1] = []string{"*", "**", "?", "[a-c]", "*a*"}[r.IntN(5)]
			name = strings.Join(elements, "/")
		}
		b.WriteString([]string{"", "", "- ", "+ "}[r.IntN(4)] + name + []string{"", "", "/", "/*", "/**", "/***"}[r.IntN(6)] + "\n")
	}
	if addOnly {
		b.WriteString([]string{"- *\n", "+ /var/\n+ /var/**\n- *\n", "+ */\n- a*\n", "+ */\n+ [a-e]*\n- *\n"}[r.IntN(4)])
	}
	return b.String()
}

// itemized is what a pass of rsync touched: path to "new", "touch" or "delete".
type itemized map[string]string

// refused are rsync's words when it cannot make way.
const refused = "could not make way for"
