package lint

import (
	"edeploy/server/internal/expectation"
	"edeploy/server/internal/fileset"
)

// bill checks NAME.bill, the expected hardware.
func (l *linter) bill(name string) {
	b, err := expectation.Parse(name, l.texts[name])
	if err != nil {
		l.findError(name, err)
		return
	}
	l.verdicts[name] = "expected hardware: " + count(len(b.Facts), "fact")
}

// bills checks that the bills which profiles name are there, and that each is
// named.
func (l *linter) bills() {
	named := map[string]bool{}
	certain := true
	for _, name := range sorted(l.profiles) {
		p := l.profiles[name]
		if certain = certain && !p.uncertain; p.compiled == nil || p.compiled.Bill == "" {
			continue
		}
		file := p.compiled.Bill + string(fileset.Bill)
		if named[file] = true; !l.has(file) {
			l.find(name+".specs", p.compiled.BillLine, 1, Error, "there is no %s: no machine gets the profile; edeployctl expect %s ID makes it from a good machine", file, p.compiled.Bill)
		}
	}
	for _, file := range sorted(l.texts) {
		if n, err := fileset.ParseName(file); err == nil && n.Kind == fileset.Bill && !named[file] && certain {
			l.find(file, 0, 0, Warning, "no profile expects it: name it by the line \"# edeploy: expect %s\" in a specs file", n.Profile)
		}
	}
}
