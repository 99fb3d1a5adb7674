package metadata

import (
	"path"
	"strings"
)

// covers says whether a pattern of an exclude file surely names the path or a
// directory above it. It knows the patterns that such files mostly hold; of
// others, such as those with "**", it says no. It only keeps a proposal from
// naming what is named already: the client has the whole language.
func covers(pattern, name string) bool {
	pattern = strings.TrimPrefix(pattern, "- ")
	if strings.HasPrefix(pattern, "+ ") || strings.Contains(pattern, "**") {
		return false
	}
	anchored := strings.HasPrefix(pattern, "/")
	want := strings.Split(strings.Trim(pattern, "/"), "/")
	parts := strings.Split(name, "/")
	// A pattern with a slash at its end names directories only.
	if strings.HasSuffix(pattern, "/") {
		parts = parts[:len(parts)-1]
	}
	for start := 0; start+len(want) <= len(parts); start++ {
		if start > 0 && anchored {
			return false
		}
		if fits(want, parts[start:]) {
			return true
		}
	}
	return false
}

func fits(want, parts []string) bool {
	for i, w := range want {
		if ok, err := path.Match(w, parts[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// literal is the pattern of this path only. Backslashes count in patterns with
// wildcards only, and a line cannot hold the end of a line.
func literal(name string) string {
	if !strings.ContainsAny(name, "*?[\n\r") {
		return "/" + name
	}
	return "/" + strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "\n", "?", "\r", "?").Replace(name)
}
