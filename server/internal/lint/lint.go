// Package lint reads an existing eDeploy configuration directory and says, file
// by file, what runs here unchanged, what does not, and why (reference sections
// 5 to 8). It changes nothing.
//
// Unlike the server, which reads a file up to its first mistake, it goes on
// behind a mistake where it can, and looks at how the files fit together:
// profiles without files, variables that nothing binds, CMDB entries that can
// never be given.
package lint

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/fileset"
	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/internal/upload"
)

// Severity tells what a finding means for the machines.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // something does not work
	Warning Severity = "warning" // it works, but hardly as it was meant
)

// Finding is something to mend, at a place.
type Finding struct {
	File     string   `json:"file"`
	Line     int      `json:"line,omitempty"`   // from 1; 0: it is about the whole file
	Column   int      `json:"column,omitempty"` // from 1, in characters
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
}

// String is "vm.specs:3:2: error: why".
func (f Finding) String() string { return fmt.Sprintf("%s: %s: %s", f.Where(), f.Severity, f.Text) }

// Where is "vm.specs:3:2", or the file alone.
func (f Finding) Where() string {
	if f.Line == 0 {
		return f.File
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// File is the verdict on one file.
type File struct {
	Name     string `json:"name"`
	Verdict  string `json:"verdict"` // one sentence
	Errors   int    `json:"errors"`
	Warnings int    `json:"warnings"`
}

// Report is what there is to say about a directory: files and findings in the
// order of the files' names, findings of one file in the order of their places.
type Report struct {
	Files    []File    `json:"files"`
	Findings []Finding `json:"findings"`
}

// Count is the number of findings of a severity.
func (r Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

type linter struct {
	known    Known
	texts    map[string]string // of the files that could be read
	verdicts map[string]string // of files without errors
	findings []Finding
	profiles map[string]*profile
	listed   map[string]bool // profiles of the state file
	hasState bool            // the state file could be read

	unreadable []string // files that are no text
}

// profile is what is known about the files of a profile.
type profile struct {
	name      string
	specs     bool            // there are specs, and their variables are known
	lines     int             // of the specs
	compiled  *match.Specs    // nil: the specs are broken
	variables []string        // that the specs bind, in order
	strict    map[string]bool // those of them written $$
	cmdb      *cmdb.File      // nil: none, or broken
	uncertain bool            // specs or CMDB are broken: what they give is unknown
}

// Dir looks at a directory. The error says that it could not be read; what is
// wrong inside is in the report.
func Dir(dir string, known Known) (Report, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Report{}, err
	}
	l := newLinter(map[string]string{}, known)
	for _, e := range entries {
		if err := l.read(dir, e.Name()); err != nil {
			return Report{}, err
		}
	}
	l.look()
	return l.report(), nil
}

// Files looks at texts by the names of configuration files, as Dir does.
func Files(texts map[string]string, known Known) Report {
	l := newLinter(texts, known)
	l.look()
	return l.report()
}

// Script answers what does not work in a configuration script, without the
// other files of its profile.
func Script(file, text string) []Finding {
	return slices.DeleteFunc(Files(map[string]string{file: text}, Known{}).Findings, func(f Finding) bool {
		return f.File != file || f.Severity != Error
	})
}

func newLinter(texts map[string]string, known Known) *linter {
	return &linter{known: known, texts: texts, verdicts: map[string]string{}, profiles: map[string]*profile{}, listed: map[string]bool{}}
}

// read takes in one file; only those of a configuration are opened.
func (l *linter) read(dir, name string) error {
	info, err := os.Stat(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		l.find(name, 0, 0, Error, "it is a link to a file that is not there")
		return nil
	}
	if err != nil {
		return err
	}
	_, notOurs := fileset.ParseName(name)
	switch {
	case !info.Mode().IsRegular():
		l.verdicts[name] = "not read: no file"
		return nil
	case notOurs != nil && !strings.HasSuffix(name, ".hw"):
		l.verdicts[name] = "not read: no file of a configuration"
		return nil
	}
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, literal.MaxBytes+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
	}
	if len(text) > literal.MaxBytes {
		l.find(name, 0, 0, Error, "the file has more than %d bytes", literal.MaxBytes)
		return nil
	}
	l.texts[name] = string(text)
	return nil
}

// look checks every file, then how they fit together.
func (l *linter) look() {
	for _, name := range sorted(l.texts) {
		l.file(name)
	}
	l.state()
	for _, name := range sorted(l.profiles) {
		l.together(l.profiles[name])
		l.addresses(l.profiles[name])
		l.entries(l.profiles[name])
	}
	l.bills()
	for _, name := range sorted(l.profiles) {
		l.configure(l.profiles[name])
	}
}

// file checks a file for itself; scripts need what the others say.
func (l *linter) file(name string) {
	if strings.HasSuffix(name, ".hw") {
		hw, err := upload.ParseHardware([]byte(l.texts[name]))
		l.verdicts[name] = "hardware description with " + count(len(hw), "fact")
		if err != nil {
			l.find(name, 0, 0, Error, "%v", err)
		}
		return
	}
	n, _ := fileset.ParseName(name)
	if n.Profile != "" && n.Kind != fileset.Bill {
		l.profile(n.Profile)
	}
	switch n.Kind {
	case fileset.Bill:
		l.bill(name)
	case fileset.Specs:
		l.specs(n.Profile)
	case fileset.CMDB:
		l.profile(n.Profile).cmdb = l.cmdb(n)
	case fileset.Original:
		l.cmdb(n)
	case fileset.Configure, fileset.Keys: // the others' readers tell bytes that are no text
		if n.Kind == fileset.Keys {
			l.verdicts[name] = "who may log in: " + count(fileset.CountKeys(l.texts[name]), "key")
		}
		for _, p := range fileset.Check(n, l.texts[name]) {
			l.find(p.File, p.Line, p.Column, Error, "%s", strings.TrimPrefix(p.Text, fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)))
			l.unreadable = append(l.unreadable, name)
		}
	}
}

func (l *linter) profile(name string) *profile {
	p := l.profiles[name]
	if p == nil {
		p = &profile{name: name, strict: map[string]bool{}}
		l.profiles[name] = p
	}
	return p
}

func (l *linter) has(name string) bool { _, ok := l.texts[name]; return ok }

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (l *linter) find(file string, line, column int, s Severity, format string, args ...any) {
	l.findings = append(l.findings, Finding{file, line, column, s, fmt.Sprintf(format, args...)})
}

func (l *linter) findError(file string, err error) {
	var place *literal.Error
	if errors.As(err, &place) {
		l.find(file, place.Line, place.Column, Error, "%s", place.Message)
		return
	}
	l.find(file, 0, 0, Error, "%v", err)
}

// report sorts what was found, and says for each file what becomes of it.
func (l *linter) report() Report {
	slices.SortStableFunc(l.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	r := Report{Files: []File{}, Findings: append([]Finding{}, slices.Compact(l.findings)...)}
	names := slices.AppendSeq(slices.Collect(maps.Keys(l.verdicts)), maps.Keys(l.texts))
	for _, f := range r.Findings {
		names = append(names, f.File)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		r.Files = append(r.Files, l.verdict(name, r.Findings))
	}
	return r
}

func (l *linter) verdict(name string, all []Finding) File {
	f := File{Name: name, Verdict: cmp.Or(l.verdicts[name], "runs unchanged")}
	for _, is := range all {
		switch {
		case is.File != name:
		case is.Severity == Error:
			f.Errors++
		default:
			f.Warnings++
		}
	}
	if needs, ok := strings.CutPrefix(f.Verdict, pythonVerdict); ok {
		f.Verdict = "needs real Python" + needs
		return f
	}
	switch {
	case f.Errors > 0:
		f.Verdict = "to be mended: " + count(f.Errors, "error")
	case f.Warnings > 0:
		f.Verdict += "; " + count(f.Warnings, "warning")
	}
	return f
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
