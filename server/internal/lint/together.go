package lint

import (
	"slices"
	"strings"

	"edeploy/agent/dialect"
	"edeploy/server/internal/literal"
)

// together checks how the files of one profile fit together.
func (l *linter) together(p *profile) {
	if l.hasState && !l.listed[p.name] {
		l.find(l.aFileOf(p.name), 0, 0, Warning, "profile %s is not in state: no machine gets it", p.name)
	}
	if !p.specs {
		return
	}
	file := p.name + ".specs"
	if p.lines == 0 {
		l.find(file, 0, 0, Warning, "there is no line: every machine fits")
	}
	if !l.has(p.name + ".cmdb") {
		for _, name := range sorted(p.strict) {
			l.find(file, 0, 0, Warning, "$$%s chooses a CMDB entry, but there is no %s.cmdb: it is an ordinary variable", name, p.name)
		}
		return
	}
	if p.cmdb == nil {
		return
	}
	switch {
	case p.cmdb.Len() == 0:
		l.find(p.name+".cmdb", 0, 0, Warning, "there is no entry: the profile is given without one")
		return
	case len(p.variables) == 0:
		l.find(p.name+".cmdb", 0, 0, Error, "%s binds no variable, so nothing tells machines apart: no machine gets an entry (the original gave the first one to all)", file)
		return
	}
	_, all := p.entryKeys()
	for _, name := range sorted(p.strict) {
		if !slices.Contains(all, name) {
			l.find(p.name+".cmdb", 0, 0, Error, "no entry has the key %s that $$%s of %s chooses by: no machine gets one", literal.Repr(name), name, file)
		}
	}
}

// aFileOf is the file of a profile that a finding about the profile is put at.
func (l *linter) aFileOf(name string) string {
	for _, kind := range []string{".specs", ".configure", ".cmdb"} {
		if l.has(name + kind) {
			return name + kind
		}
	}
	return name + ".cmdb.orig"
}

// entryKeys are the keys that every CMDB entry has, and those that any has.
func (p *profile) entryKeys() (every, any []string) {
	if p.cmdb == nil {
		return nil, nil
	}
	counts := map[string]int{}
	for i := range p.cmdb.Len() {
		for _, key := range p.cmdb.Entry(i).Keys() {
			if name, ok := key.(string); ok {
				counts[name]++
			}
		}
	}
	for _, name := range sorted(counts) {
		any = append(any, name)
		if counts[name] == p.cmdb.Len() {
			every = append(every, name)
		}
	}
	return every, any
}

// serverKeys are what the server adds to the variables.
var serverKeys = []string{"edeploy-profile", "used", dialect.FirmwareKey}

func (l *linter) uses(p *profile, found usage) {
	if p.uncertain || !p.specs {
		return // what they give is unknown
	}
	every, any := p.entryKeys()
	bound := p.variables
	given := slices.Concat(bound, every, found.given, []string{serverKeys[0]})
	if len(every) > 0 {
		given = append(given, serverKeys[1])
	}
	for _, use := range found.uses {
		switch {
		case slices.Contains(given, use.key), found.optional[use.key]:
		case slices.Contains(any, use.key):
			l.find(p.name+".configure", use.line, use.column, Warning, "only some entries of %s.cmdb have the key %s", p.name, literal.Repr(use.key))
		default:
			l.find(p.name+".configure", use.line, use.column, Error, "var has no %s: %s", literal.Repr(use.key), p.offers(bound, every))
		}
	}
}

func (p *profile) offers(bound, entries []string) string {
	words := p.name + ".specs binds " + listOf(bound)
	if p.cmdb != nil {
		mine := slices.DeleteFunc(slices.Clone(entries), func(s string) bool { return slices.Contains(bound, s) || s == serverKeys[1] })
		return words + ", " + p.name + ".cmdb gives " + listOf(mine)
	}
	return words + ", and there is no " + p.name + ".cmdb"
}

func listOf(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, " ")
}
