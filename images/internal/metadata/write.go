package metadata

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// Outcome is what Write did with one file.
type Outcome string

// The outcomes.
const (
	Written   Outcome = "written"
	Unchanged Outcome = "unchanged" // it was so already
	Edited    Outcome = "edited"    // somebody changed it: left as it is
	Removed   Outcome = "removed"   // not needed any more, and nobody had changed it
)

// marker begins the line that tells a file that nobody has changed since.
const marker = "# made by mkrole, sum "

// Write puts the files into the directory. A file that was changed since it
// was written is left as it is, unless force is set. The answer has an outcome
// for every file.
func Write(dir string, files map[string]string, force bool) (map[string]Outcome, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	outcomes := map[string]Outcome{}
	for _, name := range []string{Exclude, AddOnly, Pre, Post} {
		text, wanted := files[name]
		outcome, err := writeOne(filepath.Join(dir, name), text, wanted, force)
		if err != nil {
			return outcomes, err
		}
		if outcome != "" {
			outcomes[name] = outcome
		}
	}
	return outcomes, nil
}

func writeOne(file, text string, wanted, force bool) (Outcome, error) {
	old, err := os.ReadFile(file)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	text = mark(text)
	switch {
	case !wanted && !there:
		return "", nil
	case wanted && there && string(old) == text:
		return Unchanged, nil
	case there && !force && !untouched(string(old)):
		return Edited, nil
	case !wanted:
		return Removed, os.Remove(file)
	}
	mode := fs.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		mode = 0o755
	}
	return Written, renameio.WriteFile(file, []byte(text), mode, renameio.IgnoreUmask())
}

// mark adds the line by which an untouched file is known, after a line "#!".
func mark(text string) string {
	line := marker + sum(text) + "; a changed file is left as it is, mkrole metadata --force makes it anew\n"
	if first, rest, ok := strings.Cut(text, "\n"); ok && strings.HasPrefix(first, "#!") {
		return first + "\n" + line + rest
	}
	return line + text
}

// untouched says that a file is as mark left it.
func untouched(text string) bool {
	var rest strings.Builder
	said := ""
	for line := range strings.Lines(text) {
		if after, ok := strings.CutPrefix(line, marker); ok && said == "" {
			said, _, _ = strings.Cut(after, ";")
			continue
		}
		rest.WriteString(line)
	}
	return said == sum(rest.String())
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:8])
}

// Names lists the outcomes' files in order.
func Names(outcomes map[string]Outcome) []string { return slices.Sorted(maps.Keys(outcomes)) }
