// Package metadata knows what steers one upgrade: the directory
// metadata/FROM/ROLE/TO with the rule files exclude and add_only and the
// scripts pre and post (reference section 9.7). It checks such directories and
// proposes them from two versions of a role.
package metadata

import (
	"errors"
	"fmt"
	"io"
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

// Check says what would make the client refuse the upgrade, or pass over a
// script of it. The directory holds nothing but files and directories.
func Check(dir *os.Root) error {
	if _, err := readRules(dir, Exclude); err != nil {
		return err
	}
	rules, err := readRules(dir, AddOnly)
	if err != nil {
		return err
	}
	if rules == 0 {
		return errors.New(`add_only has no rule: a line "- *" says that nothing is added`)
	}
	return errors.Join(checkScript(dir, Pre), checkScript(dir, Post))
}

// readRules counts the rules of a file that count in the end.
func readRules(dir *os.Root, name string) (int, error) {
	info, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && name == Exclude:
		return 0, errors.New("exclude is missing: an upgrade without it could destroy data")
	case errors.Is(err, fs.ErrNotExist):
		return 0, fmt.Errorf("%s is missing", name)
	case err != nil:
		return 0, err
	case !info.Mode().IsRegular() || info.Size() > maxRuleBytes:
		return 0, fmt.Errorf("%s is not a file of at most %d bytes", name, maxRuleBytes)
	}
	text, err := dir.ReadFile(name)
	if err != nil {
		return 0, err
	}
	rules, err := countRules(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return rules, nil
}

func countRules(text string) (rules int, err error) {
	number := 0
	for line := range strings.SplitSeq(text, "\n") {
		number++
		for part := range strings.SplitSeq(line, "\r") {
			pattern := strings.TrimPrefix(strings.TrimPrefix(part, "- "), "+ ")
			switch {
			case part == "" || part[0] == '#' || part[0] == ';':
				continue
			case part == "!": // forgets the rules before it
				rules = 0
				continue
			case pattern == "":
				return 0, fmt.Errorf("line %d: %q has no pattern", number, part)
			case len(pattern) > maxPatternBytes:
				return 0, fmt.Errorf("line %d: a pattern of %d bytes, at most %d are taken", number, len(pattern), maxPatternBytes)
			case strings.IndexByte(pattern, 0) >= 0:
				return 0, fmt.Errorf("line %d has a zero byte", number)
			}
			rules++
		}
	}
	return rules, nil
}

// checkScript accepts a script that is missing.
func checkScript(dir *os.Root, name string) error {
	info, err := dir.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", name)
	}
	if info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not executable, it would not run: chmod +x", name)
	}
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	start, err := io.ReadAll(io.LimitReader(f, 4))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(string(start), "#!") && string(start) != "\x7fELF" {
		return fmt.Errorf("%s is neither a program nor a script: its first line must be like #!/bin/sh", name)
	}
	return nil
}
