package lint

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"edeploy/server/internal/cmdb"
	"edeploy/server/internal/literal"
)

// accidents are texts whose digits and dashes are hardly meant as ranges.
var accidents = []struct {
	what string
	form *regexp.Regexp
}{
	{"date", regexp.MustCompile(`(^|[^0-9])(19|20)[0-9]{2}-[01]?[0-9]-[0-3]?[0-9]($|[^0-9])`)},
	{"UUID", regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)},
	{"MAC address", regexp.MustCompile(`(?i)(^|[^0-9a-f-])([0-9a-f]{2}-){5}[0-9a-f]{2}($|[^0-9a-f-])`)},
	{"version", regexp.MustCompile(`[A-Za-z][0-9.]*\.[0-9]+-[0-9]+\.`)},
}

var (
	rangeText = regexp.MustCompile(`[0-9]+-[0-9]+`)
	rangeRun  = regexp.MustCompile(`[0-9]+-[0-9]+(:[0-9]+(-[0-9]+)?)*`)
	quadForm  = regexp.MustCompile(`^[0-9:-]+(\.[0-9:-]+){3}$`)
	largeByte = regexp.MustCompile(`^[0-9]+(\.[0-9]+){3}$`)
)

func (l *linter) generate(file string, doc *literal.Document, fixed *repairs, f *cmdb.File) {
	model, prefix, err := cmdb.Arguments(doc)
	if err != nil {
		return // cmdb.Parse has read it
	}
	dict := model.Value.(*literal.Dict)
	lengths := map[int][]string{}
	for i, key := range dict.Keys() {
		value, _ := dict.Get(key)
		line, column := doc.Position(model.Start)
		if len(model.Items) == dict.Len() { // no key is there twice
			line, column = doc.Position(model.Items[i].Start)
		}
		column = fixed.column(line, column)
		if name := literal.Text(key); prefix == "" || strings.HasPrefix(name, prefix) {
			l.ranges(file, line, column, value)
			if n := makes(value); n > 0 {
				lengths[n] = append(lengths[n], strings.TrimPrefix(name, prefix))
			}
		}
	}
	if len(lengths) > 1 {
		line, column := doc.Position(model.Start)
		l.find(file, line, fixed.column(line, column), Warning, "the list ends after %s; values: %s", count(f.Len(), "entry"), lengthsText(lengths))
	}
	l.octets(file, doc, model, f)
}

// addressRange is two addresses with a dash between.
var addressRange = regexp.MustCompile(`^([0-9]+\.[0-9]+\.[0-9]+\.)([0-9]+)-([0-9]+\.[0-9]+\.[0-9]+\.)([0-9]+)(/[0-9]+)?$`)

// rightRange says how a range of addresses is written.
func rightRange(network, first, network2, last, mask string) string {
	if network == network2 {
		return "write " + literal.Repr(network+first+"-"+last+mask)
	}
	return "only octets have ranges, such as " + literal.Repr(network+first+"-254"+mask) + ": write a list with one element per entry"
}

// ranges looks for ranges that are none.
func (l *linter) ranges(file string, line, column int, value literal.Value) {
	if tuple, ok := value.(literal.Tuple); ok {
		l.find(file, line, column, Warning, "every entry gets the whole %s; to give each entry one of them, write %s", literal.Repr(tuple), literal.Repr(literal.List(tuple)))
		return
	}
	text, ok := value.(string)
	if !ok || !rangeText.MatchString(text) || quadForm.MatchString(text) {
		return
	}
	if m := addressRange.FindStringSubmatch(text); m != nil {
		l.find(file, line, column, Warning, "%s makes %s; %s", literal.Repr(text), examples(text), rightRange(m[1], m[2], m[3], m[4], m[5]))
		return
	}
	for _, a := range accidents {
		if a.form.MatchString(text) {
			l.find(file, line, column, Warning, "%s looks like a %s, but is a range: it makes %s; write a list with one element per entry, or use a prefix",
				literal.Repr(text), a.what, examples(text))
			return
		}
	}
	if len(rangeRun.FindAllString(text, -1)) > 1 {
		l.find(file, line, column, Warning, "only the first range of %s is expanded: it makes %s", literal.Repr(text), examples(text))
	}
}

// examples are the first values that a text makes.
func examples(text string) string {
	made, err := cmdb.Generate(literal.NewDict("x", text), "")
	if err != nil {
		return "nothing"
	}
	var words []string
	for _, d := range made[:min(2, len(made))] {
		v, _ := d.Get("x")
		words = append(words, literal.Repr(v))
	}
	if len(made) > 2 {
		words = append(words, "...")
	}
	return strings.Join(words, ", ")
}

// makes is the number of values that a range or a list makes, 0 for any other
// value.
func makes(value literal.Value) int {
	switch v := value.(type) {
	case literal.List:
		return len(v)
	case string:
		if !rangeText.MatchString(v) {
			return 0
		}
		made, err := cmdb.Generate(literal.NewDict("x", v), "")
		if err == nil {
			return len(made)
		}
	}
	return 0
}

func lengthsText(lengths map[int][]string) string {
	var words []string
	for _, n := range slices.Sorted(maps.Keys(lengths)) {
		words = append(words, strings.Join(lengths[n], " and ")+": "+strconv.Itoa(n))
	}
	return strings.Join(words, ", ")
}

// octets finds the first address that is none.
func (l *linter) octets(file string, doc *literal.Document, model literal.Node, f *cmdb.File) {
	for i := range f.Len() {
		for key, v := range f.Entry(i).All() {
			text, ok := v.(string)
			if !ok || !largeByte.MatchString(text) {
				continue
			}
			for part := range strings.SplitSeq(text, ".") {
				if len(part) > 3 || len(part) == 3 && part > "255" {
					line, column := doc.Position(model.Start)
					l.find(file, line, column, Warning, "%s of entry %d is %s, which is no address", literal.Text(key), i+1, text)
					return
				}
			}
		}
	}
}
