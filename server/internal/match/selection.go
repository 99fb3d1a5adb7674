package match

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"edeploy/server/internal/literal"
)

// selection names disks by what they are, for variables that the specs and the
// script use:
//
//	# edeploy: disks $system, $mirror, rotational=0, removable=0, size=gt(100), order=size
//
// It is decided before the specs are, from the facts of all disks, so that which
// disks are chosen does not depend on their order or on what the kernel calls them;
// nor which variable gets which, as long as disks of one size have serial numbers.
type selection struct {
	line      int
	text      string
	variables []int // by number; as many disks are wanted
	where     []condition
	order     string // "", "size" or "-size"
}

// condition is what one of the facts of a disk with this field must be.
type condition struct {
	field string
	holds test
	means bool // one disk or kind of disk by name, so that it may be removable
}

// Asked is a field of disks that a selection asks for.
type Asked struct {
	Line  int // in the specs file
	Field string
}

// Asked are the fields that selections ask for.
func (s *Specs) Asked() []Asked {
	var all []Asked
	for _, sel := range s.selections {
		for _, c := range sel.where {
			all = append(all, Asked{sel.line, c.field})
		}
	}
	return all
}

// selection compiles the words behind "disks".
func (c *compiler) selection(node literal.Node, words string) error {
	line, _ := c.doc.Position(node.Start)
	s := selection{line: line, text: "# edeploy: disks " + words}
	for _, part := range splitArguments(words) {
		part = strings.TrimSpace(part)
		field, want, assigned := strings.Cut(part, "=")
		field, want = strings.TrimSpace(field), unquote(strings.TrimSpace(want))
		switch {
		case strings.HasPrefix(part, "$") && !assigned && part != "$":
			s.variables = append(s.variables, c.variable(part[1:]))
		case !assigned || field == "" || want == "" || strings.HasPrefix(field, "$"):
			return c.doc.ErrorAt(node.Start, "edeploy: disks: %s is neither a $variable nor a condition such as rotational=0", literal.Repr(short(part)))
		case field == "order" && (s.order != "" || want != "size" && want != "-size"):
			return c.doc.ErrorAt(node.Start, "edeploy: disks: want order=size or order=-size, once")
		case field == "order":
			s.order = want
		default:
			f, err := c.helperOrText(node, want)
			if err != nil {
				return err
			}
			s.where = append(s.where, condition{field, f.test(), means(field, f)})
		}
	}
	if len(s.variables) == 0 {
		return c.doc.ErrorAt(node.Start, "edeploy: disks names no $variable that gets a disk")
	}
	for _, earlier := range append(c.specs.selections, selection{}) {
		for i, v := range s.variables {
			if slices.Contains(earlier.variables, v) || slices.Contains(s.variables[:i], v) {
				return c.doc.ErrorAt(node.Start, "edeploy: disks: $%s gets a disk already", c.specs.names[v])
			}
		}
	}
	c.specs.selections = append(c.specs.selections, s)
	return nil
}

// test is a field without its variable, as a reader expects it.
func (f field) test() test {
	if f.kind == helper {
		return f.sane
	}
	return func(v *value) bool { return v.text == f.literal }
}

// selectable is a disk of the description.
type selectable struct {
	name  int32 // its number in the index
	facts map[string][]*value
	size  float64 // in GB, as described
	given bool    // to a variable of an earlier selection
}

func (d selectable) text(field string) string {
	if all := d.facts[field]; len(all) > 0 {
		return all[0].text
	}
	return ""
}

// selectables are the disks that the kernel has; controllers describe others
// in the same category, behind them. They are found once: hundreds of profiles
// may ask.
func (ix *Index) selectables() []selectable {
	category, ok := ix.ids["disk"]
	if !ok || ix.disks != nil {
		return ix.disks
	}
	all := []selectable{}
	places := map[int32]int{}
	for _, fact := range ix.byKind[category] {
		row := ix.rows[fact]
		i, known := places[row[1]]
		if !known {
			i = len(all)
			places[row[1]] = i
			all = append(all, selectable{name: row[1], facts: map[string][]*value{}, size: math.NaN()})
		}
		field, v := ix.values[row[2]].text, &ix.values[row[3]]
		all[i].facts[field] = append(all[i].facts[field], v)
		if field == "size" {
			all[i].size = v.number
		}
	}
	ix.disks = slices.DeleteFunc(all, func(d selectable) bool { return math.IsNaN(d.size) || d.facts["rotational"] == nil })
	return ix.disks
}

// choose gives the variables their disks, or says why it cannot. What earlier
// selections have given is not given again.
func (s *selection) choose(ix *Index, given []int32) (names []int32, why string) {
	all := slices.Clone(ix.selectables())
	for i := range all {
		all[i].given = slices.Contains(given, all[i].name)
	}
	fits := slices.DeleteFunc(slices.Clone(all), func(d selectable) bool { return !s.fits(d) })
	slices.SortStableFunc(fits, func(a, b selectable) int {
		return cmp.Or(s.compare(a, b), cmp.Compare(a.text("serial"), b.text("serial")))
	})
	want := len(s.variables)
	switch {
	case len(fits) < want:
		return nil, s.tooFew(ix, all, fits)
	case len(fits) > want && s.order == "":
		return nil, fmt.Sprintf("%s wanted, and %d fit: say more, or order=size or order=-size: %s", disks(want), len(fits), ix.list(fits))
	case len(fits) > want && s.compare(fits[want-1], fits[want]) == 0:
		tied := slices.DeleteFunc(slices.Clone(fits), func(d selectable) bool { return d.size != fits[want].size })
		return nil, fmt.Sprintf("%s wanted by order=%s, and nothing says which of these %d is one of them: %s", disks(want), s.order, len(tied), ix.list(tied))
	}
	for _, d := range fits[:want] {
		names = append(names, d.name)
	}
	return names, ""
}

func (s *selection) tooFew(ix *Index, all, fits []selectable) string {
	for _, c := range s.where {
		if len(all) > 0 && !slices.ContainsFunc(all, func(d selectable) bool { return d.facts[c.field] != nil }) {
			return fmt.Sprintf("no disk has the fact %s", short(c.field))
		}
	}
	there := "there are: " + cmp.Or(ix.list(all), "none")
	if len(fits) == 0 {
		return "no disk fits; " + there
	}
	return fmt.Sprintf("%s wanted, and only %d fit: %s; %s", disks(len(s.variables)), len(fits), ix.list(fits), there)
}

func disks(n int) string {
	if n == 1 {
		return "1 disk is"
	}
	return fmt.Sprintf("%d disks are", n)
}

func (s *selection) compare(a, b selectable) int {
	switch s.order {
	case "size":
		return cmp.Compare(a.size, b.size)
	case "-size":
		return cmp.Compare(b.size, a.size)
	}
	return 0
}

// means tells conditions that speak of removable disks or of one by its name. A
// helper names none: not(in(...)) holds for any stick.
func means(name string, want field) bool {
	return name == "removable" || want.kind != helper &&
		(slices.Contains([]string{"serial", "wwn", "id", "wwn-id", "scsi-id"}, name) || name == "transport" && want.literal == "usb")
}

// fits tests all conditions. What is removable, or on USB, is left out unless a
// condition speaks of it.
func (s *selection) fits(d selectable) bool {
	if d.given {
		return false
	}
	meant := false
	for _, c := range s.where {
		if !slices.ContainsFunc(d.of(c.field), c.holds) {
			return false
		}
		meant = meant || c.means
	}
	return meant || !d.removable()
}

var removable = newValue("1")

// of are a disk's facts. All on USB is removable, whatever the kernel says.
func (d selectable) of(field string) []*value {
	if field == "removable" && d.text("transport") == "usb" {
		return []*value{&removable}
	}
	return d.facts[field]
}

func (d selectable) removable() bool {
	r := d.of("removable")
	return r != nil && r[0].text != "0"
}

func (d selectable) describe(name string) string {
	what := []string{short(cmp.Or(d.text("model"), "unknown model"))}
	if serial := d.text("serial"); serial != "" {
		what = append(what, "serial "+short(serial))
	}
	what = append(what, short(d.text("size"))+" GB")
	if transport := d.text("transport"); transport != "" {
		what = append(what, short(transport))
	}
	if d.removable() {
		what = append(what, "removable")
	}
	if d.given {
		what = append(what, "given to another variable")
	}
	return fmt.Sprintf("%s (%s)", name, strings.Join(what, ", "))
}

// list names disks so that a person finds them.
func (ix *Index) list(all []selectable) string {
	const most = 12
	var texts []string
	for i, d := range all {
		if i == most {
			texts = append(texts, fmt.Sprintf("and %d more", len(all)-most))
			break
		}
		texts = append(texts, d.describe(short(ix.values[d.name].text)))
	}
	return strings.Join(texts, ", ")
}
