package lint

import (
	"net/netip"
	"strings"

	"edeploy/server/internal/literal"
	"edeploy/server/internal/match"
	"edeploy/server/wire"
)

// Known is what a configuration is compared with; the zero value is nothing.
type Known struct {
	Machines    map[string]wire.Hardware // by name: all that the configuration is for, as far as known
	First, Last netip.Addr               // addresses that a DHCP server gives to anybody
}

// facts tells spec lines that ask for what no machine has: a misspelt category
// or field.
func (l *linter) facts(file string, doc *literal.Document, fixed *repairs) {
	if len(l.known.Machines) == 0 {
		return
	}
	categories, fields := l.factNames()
	for _, line := range doc.Node.Items {
		if len(line.Items) != 4 {
			continue
		}
		category, plain := plainField(line.Items[0])
		field, plainToo := plainField(line.Items[2])
		switch {
		case plain && categories[category] == nil:
			l.findFact(file, doc, fixed, line.Items[0], category, "no machine has facts of the category", sorted(categories))
		case plain && plainToo && !categories[category][field]:
			l.findFact(file, doc, fixed, line.Items[2], field, "no machine has in its "+category+" facts the field", sorted(categories[category]))
		case !plain && plainToo && !fields[field]:
			l.findFact(file, doc, fixed, line.Items[2], field, "no machine has the field", sorted(fields))
		}
	}
}

// selected tells selections that ask for what no disk has.
func (l *linter) selected(file string, specs *match.Specs) {
	if len(l.known.Machines) == 0 {
		return
	}
	categories, _ := l.factNames()
	for _, asked := range specs.Asked() {
		if !categories["disk"][asked.Field] {
			l.find(file, asked.Line, 1, Warning, "%s", unknown("no machine has in its disk facts the field", asked.Field, sorted(categories["disk"])))
		}
	}
}

// factNames are the categories of all machines' facts with their fields, and
// all fields.
func (l *linter) factNames() (categories map[string]map[string]bool, fields map[string]bool) {
	categories, fields = map[string]map[string]bool{}, map[string]bool{}
	for _, hw := range l.known.Machines {
		for _, f := range hw {
			if categories[f.Category] == nil {
				categories[f.Category] = map[string]bool{}
			}
			categories[f.Category][f.Field], fields[f.Field] = true, true
		}
	}
	return categories, fields
}

// plainField is a field that has to be equal to a fact's.
func plainField(node literal.Node) (string, bool) {
	text, ok := node.Value.(string)
	return text, ok && !strings.HasPrefix(text, "$") && !strings.HasSuffix(text, ")")
}

func (l *linter) findFact(file string, doc *literal.Document, fixed *repairs, node literal.Node, is, sentence string, there []string) {
	line, column := doc.Position(node.Start)
	l.find(file, line, fixed.column(line, column), Warning, "%s", unknown(sentence, is, there))
}

func unknown(sentence, is string, there []string) string {
	sentence += " " + literal.Repr(is)
	if near := nearest(is, there); near != "" {
		sentence += ": did you mean " + literal.Repr(near) + "?"
	}
	return sentence
}

// nearest is the text that is spelt most alike; "": none is.
func nearest(is string, there []string) string {
	best, least := "", len(is)/2+1
	for _, text := range there {
		if d := Distance(strings.ToLower(is), strings.ToLower(text)); d < least {
			best, least = text, d
		}
	}
	return best
}

// Distance is the number of bytes to change, add or take away to make one text
// the other (Levenshtein).
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// addresses tells the first entry with an address that a DHCP server gives
// away, too.
func (l *linter) addresses(p *profile) {
	first, last := l.known.First, l.known.Last
	if p.cmdb == nil || !first.IsValid() {
		return
	}
	for i := range p.cmdb.Len() {
		for key, v := range p.cmdb.Entry(i).All() {
			text, _ := v.(string)
			text, _, _ = strings.Cut(text, "/")
			if is, err := netip.ParseAddr(text); err == nil && is.Compare(first) >= 0 && is.Compare(last) <= 0 {
				l.find(p.name+".cmdb", 0, 0, Warning, "%s of entry %d is %s, which the DHCP server gives to any machine: keep entries out of its range %v-%v",
					literal.Text(key), i+1, text, first, last)
				return
			}
		}
	}
}

// maxUnlisted bounds the machines that are named for one profile.
const maxUnlisted = 5

// entries tells machines that fit a profile whose CMDB has no entry with their
// values.
func (l *linter) entries(p *profile) {
	if p.cmdb == nil || len(p.strict) == 0 || p.compiled == nil {
		return
	}
	told := 0
	for _, machine := range sorted(l.known.Machines) {
		result := match.Match(l.known.Machines[machine], p.compiled)
		if !result.OK || p.cmdb.With(result.Strict.Dict()) >= 0 {
			continue
		}
		if told++; told > maxUnlisted {
			l.find(p.name+".cmdb", 0, 0, Warning, "and more machines fit %s without an entry", p.name)
			return
		}
		l.find(p.name+".cmdb", 0, 0, Warning, "machine %s fits %s, but no entry has %s", machine, p.name, result.Strict.Equations())
	}
}
