package lint

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	profiles "edeploy/server/internal/profile"
	"edeploy/server/internal/state"
)

// state checks the state file; without one no machine gets anything.
func (l *linter) state() {
	const file = "state"
	if !l.has(file) {
		l.find(file, 0, 0, Error, "there is no state file: no machine gets anything")
		return
	}
	text, fixed := l.commas(file)
	st, err := state.Parse(file, text)
	if err != nil {
		l.findError(file, fixed.back(err))
		return
	}
	l.hasState = true
	doc, err := literal.Parse(file, text)
	if err != nil {
		return // state.Parse has read it
	}
	first := map[string]int{}
	for i, pair := range st.Pairs() {
		line, column := doc.Position(doc.Node.Items[i].Start)
		column = fixed.column(line, column)
		if err := profiles.CheckName(pair.Profile); err != nil {
			l.find(file, line, column, Error, "%v", err)
			continue
		}
		if before, twice := first[pair.Profile]; twice {
			l.find(file, line, column, Warning, "profile %s is listed twice, first in line %d: counts that are given back go to the first", pair.Profile, before)
			continue
		}
		first[pair.Profile] = line
		if pair.Count < 0 {
			l.find(file, line, column, Warning, "the count of %s is %d: no machine gets it", pair.Profile, pair.Count)
		}
		l.listed[pair.Profile] = true
		l.filesOf(pair.Profile, line, column)
	}
	l.verdicts[file] = "runs unchanged: " + count(len(first), "profile")
}

// filesOf finds out whether a profile of the state file can be given.
func (l *linter) filesOf(name string, line, column int) {
	if !l.has(name + ".specs") {
		l.find("state", line, column, Error, "profile %s has no %s.specs: no machine gets it", name, name)
	}
	if !l.has(name + ".configure") {
		l.find("state", line, column, Error, "profile %s has no %s.configure: a machine that fits gets an error", name, name)
	}
}

// specs checks NAME.specs, each line for itself when the whole does not
// compile.
func (l *linter) specs(name string) {
	file, p := name+".specs", l.profile(name)
	text, fixed := l.commas(file)
	doc, err := literal.Parse(file, text)
	if err != nil {
		p.uncertain = true
		l.findError(file, fixed.back(err))
		return
	}
	p.specs, p.lines = true, len(doc.Node.Items)
	p.variables, p.strict = match.Variables(doc)
	l.facts(file, doc, fixed)
	compiled, err := match.Compile(file, text)
	if err != nil {
		l.lines(file, doc, fixed, err)
		return
	}
	p.compiled = compiled
	l.warnings(file, fixed, compiled.Warnings)
	l.selected(file, compiled)
	l.verdicts[file] = "runs unchanged: " + count(p.lines, "line")
	if len(p.variables) > 0 {
		l.verdicts[file] += ", binds " + strings.Join(p.variables, " ")
	}
}

// maxLines bounds the lines that are compiled one by one.
const maxLines = 500

// lines compiles every line of a specs file for itself, so that all that are
// wrong are told.
func (l *linter) lines(file string, doc *literal.Document, fixed *repairs, whole error) {
	found := len(l.findings)
	blank := strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return ' '
	}, doc.Text)
	if len(blank) != len(doc.Text) || len(doc.Node.Items) > maxLines {
		l.findError(file, fixed.back(whole)) // other than ASCII: places would be wrong
		return
	}
	for _, item := range doc.Node.Items {
		start, end := doc.Node.Start, doc.Node.End
		only := blank[:start] + "[" + blank[start+1:item.Start] + doc.Text[item.Start:item.End] + blank[item.End:end-1] + "]" + blank[end:]
		one, err := match.Compile(file, only)
		if err != nil {
			l.findError(file, fixed.back(err))
			continue
		}
		l.warnings(file, fixed, one.Warnings)
	}
	if len(l.findings) == found {
		l.findError(file, fixed.back(whole))
	}
}

func (l *linter) warnings(file string, fixed *repairs, all []*literal.Error) {
	for _, w := range all {
		severity := Warning
		if strings.Contains(w.Message, "can never match") {
			severity = Error // and so does its profile not
		}
		l.find(file, w.Line, fixed.column(w.Line, w.Column), severity, "%s", w.Message)
	}
}

func (l *linter) cmdb(n fileset.Name) *cmdb.File {
	file, p := n.String(), l.profile(n.Profile)
	text, fixed := l.commas(file)
	f, err := cmdb.Parse(file, text)
	if err != nil {
		if n.Kind == fileset.CMDB {
			p.uncertain = true
		}
		l.findError(file, fixed.back(err))
		return nil
	}
	used := 0
	for i := range f.Len() {
		if f.Used(i) {
			used++
		}
	}
	l.verdicts[file] = "runs unchanged: " + count(f.Len(), "entry")
	switch {
	case n.Kind == fileset.Original:
		l.verdicts[file] = "kept by the server: " + count(f.Len(), "entry")
	case f.Original() != "":
		l.verdicts[file] += " by generate"
	default:
		l.verdicts[file] += fmt.Sprintf(", %d used", used)
	}
	if doc, err := literal.ParseCall(file, text, "generate"); err == nil && doc.Call != nil {
		l.generate(file, doc, fixed, f)
	}
	return f
}

// repairs are the commas that were put in, so that the rest could be read.
type repairs struct{ places [][2]int } // line, column in the repaired text

// column is where a place of the repaired text is in the file.
func (r *repairs) column(line, column int) int {
	is := column
	for _, p := range r.places {
		if p[0] == line && column > p[1] {
			is--
		}
	}
	return is
}

func (r *repairs) back(err error) error {
	var place *literal.Error
	if !errors.As(err, &place) {
		return err
	}
	moved := *place
	moved.Column = r.column(place.Line, place.Column)
	return &moved
}

// maxRepairs bounds the missing commas that are told.
const maxRepairs = 50

// commas puts in the commas that are missing between tuples, lists and
// dictionaries, and tells them.
func (l *linter) commas(file string) (string, *repairs) {
	text, r := l.texts[file], &repairs{}
	for range maxRepairs {
		var place *literal.Error
		if _, err := literal.ParseCall(file, text, "generate"); !errors.As(err, &place) || !strings.HasPrefix(place.Message, "want a comma") {
			return text, r
		}
		at := place.Offset
		if at >= len(text) || !strings.ContainsRune("([{", rune(text[at])) || !endsBracket(text[:at]) {
			return text, r
		}
		l.find(file, place.Line, r.column(place.Line, place.Column), Error, "a comma is missing before this %q: the original fails here, too", text[at:at+1])
		r.places = append(r.places, [2]int{place.Line, place.Column})
		text = text[:at] + "," + text[at:]
	}
	return text, r
}

// endsBracket tells whether the last thing before the end, comments and blanks
// aside, closes a bracket.
func endsBracket(text string) bool {
	for _, line := range slices.Backward(strings.Split(text, "\n")) {
		if code, comment, ok := strings.Cut(line, "#"); ok && !strings.ContainsAny(comment, `'"`) {
			line = code
		}
		if line = strings.TrimSpace(line); line != "" {
			return strings.ContainsRune(")]}", rune(line[len(line)-1]))
		}
	}
	return false
}
