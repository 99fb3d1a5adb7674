package initrd

import (
	"path"
	"strings"

	"edeploy/initrd/internal/pick"
	"edeploy/initrd/internal/tree"
)

// withDependencies adds to the lines the modules that the modules they name
// depend on, as modules.dep lists them (all of them, not only the next).
func withDependencies(t *tree.Tree, lines []pick.Line) []pick.Line {
	wanted := lines
	for _, name := range t.Names() {
		if ok, _ := path.Match("usr/lib/modules/*/modules.dep", name); !ok {
			continue
		}
		entry, _ := t.Get(name)
		for line := range strings.Lines(string(entry.Data)) {
			module, needs, _ := strings.Cut(line, ":")
			if !anyMatches(lines, path.Join(path.Dir(name), module)) {
				continue
			}
			for _, need := range strings.Fields(needs) {
				wanted = append(wanted, pick.Line{Pattern: path.Join(path.Dir(name), need)})
			}
		}
	}
	return wanted
}

func anyMatches(lines []pick.Line, name string) bool {
	for _, line := range lines {
		if line.Matches(name) {
			return true
		}
	}
	return false
}
