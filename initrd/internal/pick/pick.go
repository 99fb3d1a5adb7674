// Package pick chooses files of a Debian tree for the initrd: those of a list,
// with the libraries and interpreters they need.
package pick

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"edeploy/initrd/internal/tree"
)

// Line is one wish of a list.
type Line struct {
	Pattern  string // path.Match pattern of paths without leading slash; ending in "/**": everything below
	Optional bool   // written with a "?" before it: fine when the tree has none
}

// ParseList reads a list: one pattern a line, "?" before optional ones, "#"
// begins a comment.
func ParseList(text string) ([]Line, error) {
	var lines []Line
	n := 0
	for raw := range strings.Lines(text) {
		n++
		raw, _, _ = strings.Cut(raw, "#")
		pattern, optional := strings.CutPrefix(strings.TrimSpace(raw), "?")
		if pattern == "" {
			continue
		}
		if _, err := path.Match(pattern, "x"); err != nil || path.IsAbs(pattern) {
			return nil, fmt.Errorf("line %d: %s: want a path pattern without leading slash", n, pattern)
		}
		lines = append(lines, Line{pattern, optional})
	}
	return lines, nil
}

// Matches says whether the pattern names the path.
func (l Line) Matches(name string) bool {
	if dir, ok := strings.CutSuffix(l.Pattern, "/**"); ok {
		return matchParent(dir, name)
	}
	ok, _ := path.Match(l.Pattern, name)
	return ok
}

func matchParent(dir, name string) bool {
	for name = path.Dir(name); name != "."; name = path.Dir(name) {
		if ok, _ := path.Match(dir, name); ok {
			return true
		}
	}
	return false
}

// Pick answers the paths of everything the lines ask for and need, sorted:
// files, the symbolic links that lead to them, and ELF dependencies. Every wish
// that the tree does not fulfil is named in the error.
func Pick(t *tree.Tree, lines []Line) ([]string, error) {
	p := picker{tree: t, picked: map[string]bool{}}
	names := t.Names()
	for _, line := range lines {
		p.line(line, names)
	}
	return slices.Sorted(maps.Keys(p.picked)), errors.Join(p.errs...)
}

type picker struct {
	tree   *tree.Tree
	picked map[string]bool
	errs   []error
}

func (p *picker) line(line Line, names []string) {
	found := false
	if !strings.ContainsAny(line.Pattern, `*?[\`) {
		names = []string{line.Pattern} // may lead through a linked directory
	}
	for _, name := range names {
		if line.Matches(name) && p.tree.Exists(name) {
			found = true
			p.add(name)
		}
	}
	if !found && !line.Optional {
		p.errs = append(p.errs, fmt.Errorf("the tree has no %s", line.Pattern))
	}
}

// add picks a path, the links to it and what it needs.
func (p *picker) add(name string) {
	file, links, err := p.tree.Resolve(name)
	if err != nil {
		p.errs = append(p.errs, err)
		return
	}
	for _, link := range links {
		p.picked[link] = true
	}
	if p.picked[file] {
		return
	}
	p.picked[file] = true
	entry, _ := p.tree.Get(file)
	needs, err := p.needs(file, entry.Data)
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", file, err))
	}
	for _, need := range needs {
		p.add(need)
	}
}

// needs are the interpreter and the libraries of a program or library, or the
// interpreter of a script.
func (p *picker) needs(name string, data []byte) ([]string, error) {
	if script, ok := bytes.CutPrefix(data, []byte("#!")); ok {
		line, _, _ := bytes.Cut(script, []byte("\n"))
		// No package has files in /usr/local (Debian Policy, section 9.1.2), but some
		// modules of Python name it in a line that nobody uses.
		if words := strings.Fields(string(line)); len(words) > 0 && !strings.HasPrefix(words[0], "/usr/local/") {
			return words[:1], nil
		}
		return nil, nil
	}
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil, nil
	}
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	if file.Type == elf.ET_REL {
		return nil, nil // a kernel module
	}
	return p.dependencies(name, file)
}

func (p *picker) dependencies(name string, file *elf.File) ([]string, error) {
	var needs []string
	for _, prog := range file.Progs {
		if prog.Type == elf.PT_INTERP {
			interpreter := make([]byte, prog.Filesz)
			if _, err := prog.ReadAt(interpreter, 0); err != nil {
				return nil, fmt.Errorf("read ELF interpreter: %w", err)
			}
			needs = append(needs, string(bytes.TrimRight(interpreter, "\x00")))
		}
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("read ELF dependencies: %w", err)
	}
	dirs := searchDirs(name, file)
	for _, library := range libraries {
		at, err := p.find(library, dirs)
		if err != nil {
			return nil, err
		}
		needs = append(needs, at)
	}
	return needs, nil
}

// defaultDirs is where Debian's ld.so looks without a cache (ld.so(8)).
var defaultDirs = []string{
	"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu", "lib", "usr/lib", "lib64", "usr/lib64",
}

// searchDirs puts the directories that the file itself names first.
func searchDirs(name string, file *elf.File) []string {
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		values, _ := file.DynString(tag)
		for _, value := range values {
			value = strings.NewReplacer("$ORIGIN", "/"+path.Dir(name), "${ORIGIN}", "/"+path.Dir(name)).Replace(value)
			dirs = append(dirs, strings.Split(value, ":")...)
		}
	}
	return append(dirs, defaultDirs...)
}

func (p *picker) find(library string, dirs []string) (string, error) {
	for _, dir := range dirs {
		if name := path.Join(dir, library); p.tree.Exists(name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("library %s: %w", library, fs.ErrNotExist)
}
