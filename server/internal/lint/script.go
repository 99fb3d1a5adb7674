package lint

import (
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"edeploy/agent/dialect"
)

// pythonVerdict starts the verdict on scripts that the dialect cannot run.
const pythonVerdict = "\x00"

const printText = "print is a statement of Python 2 only: write print(...)"

const startPython = `let the script start with "#!/usr/bin/python3"`

func (l *linter) configure(p *profile) {
	file := p.name + ".configure"
	text, ok := l.texts[file]
	if !ok {
		if l.has(p.name+".specs") && !l.listed[p.name] {
			l.find(p.name+".specs", 0, 0, Warning, "there is no %s", file)
		}
		return
	}
	if slices.Contains(l.unreadable, file) {
		return
	}
	if !namesSetRole(text) {
		l.find(file, 0, 0, Error, "the script never calls set_role(role, version, disk): the installation fails at its end")
	}
	if strings.HasPrefix(text, "#!") {
		l.interpreted(p, text)
		return
	}
	s := newScript(file, text)
	l.parse(p, s, l.python(file, s))
}

// namesSetRole tells whether a script speaks of set_role, comments and texts
// aside.
func namesSetRole(text string) bool {
	if strings.HasSuffix(dialect.Program(text), "sh") {
		return strings.Contains(text, "set_role")
	}
	return slices.Contains(dialect.CodeTokens(text), "set_role")
}

func (l *linter) interpreted(p *profile, text string) {
	file := p.name + ".configure"
	runs := dialect.Program(text)
	if runs == "" {
		l.find(file, 1, 1, Error, `"#!" names no program`)
		return
	}
	if path.Base(runs) == "sh" {
		l.verdicts[file] = "runs with " + runs + "; its commands were not looked into"
		return
	}
	if !strings.HasPrefix(path.Base(runs), "python") {
		l.verdicts[file] = "runs with " + runs + ", if at all: it was not looked into"
		l.find(file, 1, 1, Warning, "the initrd must carry %s, or an add-on ([BOOT] ADDONS)", runs)
		return
	}
	l.pythonScript(p, file, runs, text)
}

// pythonScript looks into a script that a real Python runs.
func (l *linter) pythonScript(p *profile, file, runs, text string) {
	const looked = "; its names are known, its syntax was not checked"
	l.verdicts[file] = "runs with Python 3, an add-on of the appliance" + looked
	name := path.Base(runs)
	two := strings.HasPrefix(name, "python2")
	switch {
	case two:
		l.verdicts[file] = "runs with " + runs + ", if at all" + looked
		l.find(file, 1, 1, Warning, "the appliance's Python is version 3: %s, or name an add-on that has %s in [BOOT] ADDONS", startPython, runs)
	case name == "python":
		l.find(file, 1, 1, Warning, "%s is Python 3, in which 3/2 is 1.5: %s when that is meant", runs, startPython)
	}
	l.uses(p, textUses(text))
	if !two {
		l.python2(file, text, true)
	}
	l.pythonNames(file, text, two, map[string]bool{})
}

// python tells the statements that only real Python has; needed says that
// there are some that cannot simply be written otherwise.
func (l *linter) python(file string, s *script) (needed bool) {
	i := slices.IndexFunc(s.removed, func(st statement) bool { return st.word != "print" })
	if needed = i >= 0; needed {
		l.verdicts[file] = pythonVerdict + ": " + s.removed[i].word + " in line " + strconv.Itoa(s.removed[i].line)
	}
	for k, st := range s.removed {
		text := st.word + " needs real Python"
		switch {
		case st.word == "print":
			text = printText
		case st.word == "except" && strings.Contains(st.body, ","):
			text += ", and is written as Python 2: write except ERROR as NAME"
		case k == i:
			text += ": " + startPython
		}
		if name := ownModule(st); name != "" {
			text += "; " + name + ownModuleText
		}
		l.find(file, st.line, st.column, Error, "%s", text)
	}
	return needed
}

// parse reads what is left of the script as the agent does. Of one that needs
// real Python anyway, only the variables are of interest.
func (l *linter) parse(p *profile, s *script, needsPython bool) {
	file := s.file
	if line := tooDeep(s.text); line > 0 {
		l.find(file, line, 1, Error, "the statement is nested too deeply, or has more than %d words and signs", maxStatement)
		return
	}
	tree, err := dialect.Options.Parse(file, s.text, 0)
	var bad syntax.Error
	switch {
	case err != nil && needsPython:
		l.uses(p, textUses(s.original))
		l.needs(file, s)
		return
	case errors.As(err, &bad):
		line, column := s.place(bad)
		l.find(file, line, column, Error, "%s", syntaxText(bad.Msg))
		l.uses(p, textUses(s.original))
		return
	case err != nil:
		l.find(file, 0, 0, Error, "%v", err)
		return
	}
	found := treeUses(tree, s)
	l.uses(p, found)
	if needsPython {
		l.needs(file, s)
		return
	}
	for _, f := range found.formats {
		l.find(file, f.line, f.column, Error, "%% knows no %s: the dialect has %%s %%r %%d %%o %%x %%e %%f %%g %%c without width", f.key)
	}
	l.methods(file, s, found)
	l.makers(file, readNames(s.original))
	known := func(name string) bool { return slices.Contains(dialect.Names, name) || s.imported[name] }
	var unknown resolve.ErrorList
	if err := resolve.File(tree, known, starlark.Universe.Has); !errors.As(err, &unknown) {
		return
	}
	told := map[string]bool{}
	for _, u := range unknown {
		if told[u.Msg] {
			continue
		}
		told[u.Msg] = true
		l.find(file, int(u.Pos.Line), s.column(u.Pos), Error, "%s%s", u.Msg, nameAdvice(u.Msg))
	}
}

// ownModule is the module of the original eDeploy that a statement imports.
func ownModule(st statement) string {
	if st.word == "import" || st.word == "from" {
		for _, name := range words(st.body) {
			if slices.Contains(ownModules, name) {
				return name
			}
		}
	}
	return ""
}

// needs tells what else a script needs that only runs in a real Python, so
// that the advice to start one is all that is left to follow.
func (l *linter) needs(file string, s *script) {
	told := map[string]bool{}
	for _, st := range s.removed {
		if ownModule(st) != "" {
			for _, name := range words(st.body) {
				told[name] = true
			}
		}
	}
	l.python2(file, s.original, false)
	l.pythonNames(file, s.original, false, told)
}

// modules are what the original imported for its scripts.
var modules = []string{"os", "sys", "time", "commands", "subprocess", "re"}

func nameAdvice(msg string) string {
	_, name, _ := strings.Cut(msg, "undefined: ")
	name, _, _ = strings.Cut(name, " ")
	switch {
	case slices.Contains(ownModules, name):
		return " (" + name + ownModuleText + ")"
	case slices.Contains(modules, name):
		return " (a module of Python: use run(...), or " + startPython + ")"
	case name == "xrange" || name == "file" || name == "unicode":
		return " (write " + python2Names[name] + ")"
	case name == "exit" || name == "map" || name == "filter" || name == "sum" || name == "isinstance" || name == "round":
		return " (the dialect has no " + name + "; " + startPython + ")"
	}
	return ""
}

func (l *linter) methods(file string, s *script, found usage) {
	for _, m := range found.methods {
		if has := dialect.Modules[m.of]; has != nil && !s.imported[m.of] {
			if !slices.Contains(has, m.key) {
				l.find(file, m.line, m.column, Error, "%s has no %s: it has %s", m.of, m.key, strings.Join(has, " "))
			}
			continue
		}
		advice := ""
		switch m.key {
		case "has_key":
			advice = ": write KEY in DICT"
		case "iteritems", "itervalues", "iterkeys":
			advice = ": write " + strings.TrimPrefix(m.key, "iter")
		case "sort":
			advice = ": write sorted(LIST)"
		}
		if !s.imported[m.of] && !slices.Contains(modules, m.of) && !slices.Contains(ownModules, m.of) {
			l.find(file, m.line, m.column, Error, "no value of the dialect has a method %s%s", m.key, advice)
		}
	}
}
