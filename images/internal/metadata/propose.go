package metadata

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"edeploy/images/internal/role"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Tree is one version as it was built.
type Tree struct {
	Manifest *manifest.Manifest
	Packages map[string]string // name to version
}

// Question is what a proposal is made from.
type Question struct {
	From, To      wire.ImageRef
	Before, After Tree
	Chain         []role.Definition // the role's definitions, the outermost base first
	Machines      []role.Machine    // what may be made by each machine for itself: what a tree has the script of is excluded
	Versions      []role.Version    // what is written of versions of the role: their excludes count
	Differing     []Deviation       // how a machine differs from its version
}

// Deviation is one path that is not on a machine what its version says.
type Deviation struct {
	Path string   // below the root
	How  []string // attributes, in the words of package manifest
}

// Propose makes the files of an upgrade, by name. Comments say why each line is
// there.
func Propose(q Question) map[string]string {
	rules := q.excludes()
	files := map[string]string{Exclude: q.excludeText(rules), AddOnly: q.addOnlyText(rules)}
	changes := q.changes()
	if text := q.pre(changes); text != "" {
		files[Pre] = text
	}
	if text := q.post(changes); text != "" {
		files[Post] = text
	}
	return files
}

// rule is one line of exclude, and why it is there.
type rule struct{ pattern, why string }

// excludes are the patterns of the role and its bases, of the two versions, and
// of what differs on a machine, each once.
func (q Question) excludes() []rule {
	var rules []rule
	seen := map[string]bool{}
	add := func(why string, patterns ...string) {
		for _, p := range patterns {
			if !seen[p] {
				seen[p] = true
				rules = append(rules, rule{p, why})
			}
		}
	}
	for _, d := range q.Chain {
		add("role "+d.Name, d.Exclude...)
	}
	for _, m := range q.Machines {
		if q.makes(m) {
			add("made by each machine for itself", slices.Concat(m.Paths, m.Edited)...)
		}
	}
	for _, v := range q.Versions {
		add("version "+v.Name, v.Exclude...)
	}
	for _, d := range q.Differing {
		if !slices.ContainsFunc(rules, func(r rule) bool { return covers(r.pattern, d.Path) }) {
			add(q.whyDiffering(d), literal(d.Path))
		}
	}
	return rules
}

// makes says whether machines of one of the versions make it.
func (q Question) makes(m role.Machine) bool {
	script := strings.TrimPrefix(path.Join(role.MachineDir, m.Name), "/")
	_, before := q.Before.Manifest.Lookup(script)
	_, after := q.After.Manifest.Lookup(script)
	return before || after
}

// whyDiffering explains a line for a path that differs on a machine.
func (q Question) whyDiffering(d Deviation) string {
	why := "differs on a machine (" + strings.Join(d.How, ", ") + ")"
	before, was := q.Before.Manifest.Lookup(d.Path)
	after, is := q.After.Manifest.Lookup(d.Path)
	switch {
	case was && is && (before.SHA256 != after.SHA256 || before.Link != after.Link || before.Type != after.Type):
		return why + fmt.Sprintf(" and in %s: while this line is here, the new one does not arrive", q.To.Version)
	case was && !is:
		return why + fmt.Sprintf(" and is gone in %s: while this line is here, it stays", q.To.Version)
	case !was && is:
		return why + fmt.Sprintf(" and is new in %s: while this line is here, the machine's own stays", q.To.Version)
	}
	return why
}

func (q Question) excludeText(rules []rule) string {
	var s strings.Builder
	fmt.Fprintf(&s, "# What the upgrade of %s to %s leaves alone, neither changing nor deleting:\n"+
		"# patterns as in rsync(1), the first one that fits decides.\n", q.From, q.To.Version)
	group := ""
	for _, r := range rules {
		if r.why != group {
			group = r.why
			fmt.Fprintf(&s, "\n# %s\n", group)
		}
		s.WriteString(r.pattern + "\n")
	}
	return s.String()
}

// most is how many paths a comment names.
const most = 20

// owned are directories in which the machine's users keep their own. What is new
// in a version is added there; what they removed does not come back.
var owned = []string{"home/", "opt/", "root/", "srv/", "usr/local/"}

// addOnlyText is the original's default, everything below /var, with what is new
// in the directories of users, and says in comments what it adds in this upgrade
// and what it does not.
func (q Question) addOnlyText(rules []rule) string {
	var added, users, left []string
	for _, e := range q.After.Manifest.Entries {
		if _, old := q.Before.Manifest.Lookup(e.Path); old || !slices.ContainsFunc(rules, func(r rule) bool { return covers(r.pattern, e.Path) }) {
			continue
		}
		switch {
		case strings.HasPrefix(e.Path, "var/"):
			added = append(added, e.Path)
		case slices.ContainsFunc(owned, func(dir string) bool { return strings.HasPrefix(e.Path, dir) }):
			name := e.Path
			if e.Type == manifest.Dir {
				name += "/"
			}
			users = append(users, name)
		default:
			left = append(left, e.Path)
		}
	}
	var s strings.Builder
	fmt.Fprintf(&s, "# What the upgrade of %s to %s adds where exclude leaves everything alone,\n"+
		"# when the machine has nothing of this name: rules as in rsync(1), the first one that\n"+
		"# fits decides. The last line must stay, or every excluded path that is missing is added.\n\n", q.From, q.To.Version)
	s.WriteString("# new directories and files that programs expect below /var")
	comment(&s, "; in this version", added)
	s.WriteString("+ /var/\n+ /var/**\n\n")
	if len(users) > 0 {
		s.WriteString("# new in this version, in directories of users\n" + onlyThese(users) + "\n")
	}
	s.WriteString("# nothing else")
	comment(&s, "; new below excluded paths and not added, for which a rule like \"+ /etc/\" for each\n# directory and one for the path would be needed", left)
	s.WriteString("- *\n")
	return s.String()
}

// onlyThese are rules that let paths in, directories with "/" at their end, and
// the directories above them.
func onlyThese(paths []string) string {
	var s strings.Builder
	seen := map[string]bool{}
	rule := func(text string) {
		if !seen[text] {
			seen[text] = true
			s.WriteString("+ " + text + "\n")
		}
	}
	for _, p := range paths {
		for i := range p {
			if p[i] == '/' {
				rule(literal(p[:i]) + "/")
			}
		}
		if !strings.HasSuffix(p, "/") {
			rule(literal(p))
		}
	}
	return s.String()
}

// comment ends a comment line, with what it is about and some paths if there are any.
func comment(s *strings.Builder, what string, paths []string) {
	if len(paths) == 0 {
		s.WriteString("\n")
		return
	}
	s.WriteString(what + ":\n")
	for _, p := range paths[:min(most, len(paths))] {
		s.WriteString("#   /" + manifest.Escape(p) + "\n")
	}
	if len(paths) > most {
		fmt.Fprintf(s, "#   and %d more\n", len(paths)-most)
	}
}

// change is a reaction to packages that differ.
type change struct {
	role.Change
	where string // the reaction is written
	what  string // the packages
}

// changes are the reactions that this upgrade needs, in the order of the
// definitions.
func (q Question) changes() []change {
	differ := map[string]string{}
	for _, packages := range []map[string]string{q.Before.Packages, q.After.Packages} {
		for name := range packages {
			if before, after := q.Before.Packages[name], q.After.Packages[name]; before != after {
				differ[name] = fmt.Sprintf("%s %s -> %s", name, cmp.Or(before, "none"), cmp.Or(after, "none"))
			}
		}
	}
	var found []change
	for _, d := range q.Chain {
		for _, c := range d.Changed {
			var what []string
			for _, name := range slices.Sorted(maps.Keys(differ)) {
				if c.Fits(name) {
					what = append(what, differ[name])
				}
			}
			if len(what) > 0 {
				found = append(found, change{c, "role " + d.Name, strings.Join(what, ", ")})
			}
		}
	}
	return found
}

func (q Question) pre(changes []change) string {
	body := lines(changes, func(c role.Change) string { return c.Pre }) + q.own(func(v role.Version) string { return v.Pre })
	if body == "" {
		return ""
	}
	return fmt.Sprintf("#!/bin/sh\n# Before %s becomes %s. Another exit status than 0 ends the upgrade, nothing is changed yet.\nset -eu\n", q.From, q.To.Version) + body
}

func (q Question) post(changes []change) string {
	body := q.units() + lines(changes, func(c role.Change) string { return c.Post }) + q.own(func(v role.Version) string { return v.Post })
	if why := reboots(changes); why != "" {
		body += fmt.Sprintf("\n# a new start of the machine: %s\nexit %d\n", why, wire.RebootExitCode)
	}
	if body == "" {
		return ""
	}
	return fmt.Sprintf("#!/bin/sh\n# After %s has become %s. Exit status 0 is good, %d is good and asks for a reboot;\n# after any other one the upgrade is undone.\nset -eu\n",
		q.From, q.To.Version, wire.RebootExitCode) + body
}

// reboots says which reactions ask for a new start of the machine.
func reboots(changes []change) string {
	var why []string
	for _, c := range changes {
		if c.Reboot {
			why = append(why, strings.Join(c.Packages, ", ")+" ("+c.where+")")
		}
	}
	return strings.Join(why, ", ")
}

// units makes systemd read its units again when some differ.
func (q Question) units() string {
	for _, d := range manifest.Diff(q.Before.Manifest, q.After.Manifest) {
		for _, dir := range []string{"usr/lib/systemd/system/", "etc/systemd/system/"} {
			if strings.HasPrefix(d.Path, dir) && d.Attribute != manifest.AttrTime {
				return "\n# units differ, /" + manifest.Escape(d.Path) + " for one\nsystemctl daemon-reload\n"
			}
		}
	}
	return ""
}

// lines are the lines of the reactions that have some.
func lines(changes []change, of func(role.Change) string) string {
	var s strings.Builder
	for _, c := range changes {
		if text := of(c.Change); text != "" {
			s.WriteString("\n# " + c.where + ": " + c.what + "\n" + strings.TrimRight(text, "\n") + "\n")
		}
	}
	return s.String()
}

// own are the lines that the definition of the version upgraded to has.
func (q Question) own(of func(role.Version) string) string {
	for _, v := range q.Versions {
		if text := of(v); v.Name == q.To.Version && text != "" {
			return "\n# version " + v.Name + "\n" + strings.TrimRight(text, "\n") + "\n"
		}
	}
	return ""
}
