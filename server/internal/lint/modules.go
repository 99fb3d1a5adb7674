package lint

import (
	"slices"
	"strings"

	"edeploy/agent/dialect"
)

// makers are the programs behind modules. Whether a machine has them is known
// there alone.
var makers = map[string]string{"hpacucli": "HP's ssacli", "megacli": "LSI's MegaCli"}

// finds says whether a name is a module that scripts find, and not something
// that this one has made.
func (n *names) finds(module string) bool {
	imported := slices.ContainsFunc(n.imports, func(m named) bool { return m.name == module })
	return dialect.Modules[module] != nil && (imported || !n.bound[module])
}

func (l *linter) member(file string, n *names, m named) {
	part := strings.Split(m.name, ".")
	has := dialect.Modules[part[0]]
	if part[0] == "hpacucli" {
		has = append(slices.Clone(has), "Error")
	}
	if n.finds(part[0]) && !slices.Contains(has, part[1]) {
		l.find(file, m.line, m.column+len(part[0])+1, Error, "%s has no %s: it has %s", part[0], part[1], strings.Join(has, " "))
	}
}

// makers tells what modules need of the machine, each at its first place.
func (l *linter) makers(file string, n *names) {
	told := map[string]bool{}
	for _, m := range slices.Concat(n.imports, n.loads) {
		if makers[m.name] != "" && !told[m.name] && n.finds(m.name) {
			l.find(file, m.line, m.column, Warning, "%s needs %s in the initrd: put it there as an add-on, see agent/README.md", m.name, makers[m.name])
		}
		told[m.name] = true
	}
}
