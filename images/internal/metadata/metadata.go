// Package metadata knows what steers one upgrade: the directory
// metadata/FROM/ROLE/TO with the rule files exclude and add_only and the
// scripts pre and post (reference section 9.7). It checks such directories and
// proposes them from two versions of a role.
package metadata

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Files of an upgrade. The rules must be there, the scripts may.
const (
	Exclude = "exclude"  // rsync patterns of paths that the upgrade leaves alone
	AddOnly = "add_only" // rsync rules of paths that it adds even there
	Pre     = "pre"      // runs before anything changes
	Post    = "post"     // runs after everything has changed; exit status 100 asks for a reboot
)

// Limits of a rule file, as the client has them.
const (
	maxRuleBytes    = 1 << 20
	maxPatternBytes = 4095
)

// Check says all that would make the client refuse the upgrade, or pass over a
// script of it. The directory holds nothing but files and directories.
func Check(dir *os.Root) error {
	var found mistakes
	if _, err := readRules(dir, Exclude); err != nil {
		found = append(found, err)
	}
	if rules, err := readRules(dir, AddOnly); err != nil {
		found = append(found, err)
	} else if rules == 0 {
		found = append(found, errors.New("add_only has no rule: "+nothingAdded))
	}
	for _, name := range []string{Pre, Post} {
		if err := checkScript(dir, name); err != nil {
			found = append(found, err)
		}
	}
	if len(found) > 0 {
		return found
	}
	return nil
}

const nothingAdded = `a line "- *" says that nothing is added`

// mistakes are shown in one line.
type mistakes []error

func (m mistakes) Error() string {
	const most = 20
	var lines []string
	for _, err := range m[:min(most, len(m))] {
		lines = append(lines, err.Error())
	}
	if len(m) > most {
		lines = append(lines, fmt.Sprintf("and %d more", len(m)-most))
	}
	return strings.Join(lines, "; ")
}

// readRules counts the rules of a file that count in the end.
func readRules(dir *os.Root, name string) (int, error) {
	info, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && name == Exclude:
		return 0, errors.New("exclude is missing: an upgrade without it could destroy data")
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("%s is missing: %s", name, nothingAdded)
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular() || info.Size() > maxRuleBytes:
		return 0, fmt.Errorf("%s is not a file of at most %d bytes", name, maxRuleBytes)
	}
	text, err := dir.ReadFile(name)
	if err != nil {
		return 0, err
	}
	rules, found := countRules(name, string(text))
	if len(found) > 0 {
		return 0, found
	}
	return rules, nil
}

func countRules(file, text string) (rules int, found mistakes) {
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		for part := range strings.SplitSeq(line, "\r") {
			pattern := strings.TrimPrefix(strings.TrimPrefix(part, "- "), "+ ")
			switch {
			case part == "" || part[0] == '#' || part[0] == ';':
			case part == "!": // forgets the rules before it
				rules = 0
			case pattern == "":
				found = append(found, fmt.Errorf("%s: line %d: %q has no pattern", file, number, part))
			case len(pattern) > maxPatternBytes:
				found = append(found, fmt.Errorf("%s: line %d: a pattern of %d bytes, at most %d are taken", file, number, len(pattern), maxPatternBytes))
			case strings.IndexByte(pattern, 0) >= 0:
				found = append(found, fmt.Errorf("%s: line %d has a zero byte", file, number))
			default:
				rules++
			}
		}
	}
	return rules, found
}

// checkScript accepts a script that is missing. One without "#!" is for
// /bin/sh, which runs it on the machine.
func checkScript(dir *os.Root, name string) error {
	info, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", name)
	case info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not executable, it would not run: chmod +x %s", name, name)
	}
	return nil
}
