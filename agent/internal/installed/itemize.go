package installed

import (
	"cmp"
	"strings"

	"edeploy/images/manifest"
)

// Item is all that differs at one path.
type Item struct {
	Path        string                `json:"path"`     // printable
	Flags       string                `json:"itemized"` // eleven characters, as rsync --itemize-changes prints them
	Differences []manifest.Difference `json:"differences"`
}

// Itemize groups differences, which are in path order, by path.
func Itemize(diffs []manifest.Difference) []Item {
	var items []Item
	for group := range manifest.ByPath(diffs) {
		items = append(items, Item{manifest.Escape(group[0].Path), flags(group), group})
	}
	return items
}

// String is the item as one line: rsync's flags, the path, and words.
func (item Item) String() string {
	var words []string
	for _, d := range item.Differences {
		if w := phrase(d); w != "" {
			words = append(words, w)
		}
	}
	line := item.Flags + " " + item.Path
	if len(words) > 0 {
		line += "  (" + strings.Join(words, ", ") + ")"
	}
	return line
}

// rsyncTypes are rsync's letters for types (rsync(1), --itemize-changes).
var rsyncTypes = map[manifest.Type]string{manifest.File: "f", manifest.Dir: "d", manifest.Symlink: "L",
	manifest.Block: "D", manifest.Char: "D", manifest.Fifo: "S", manifest.Socket: "S"}

// flags tells, in rsync's letters, what would have to be done to make the path
// as the manifest has it.
func flags(diffs []manifest.Difference) string {
	d := diffs[0]
	letter := rsyncTypes[d.Type]
	switch d.Attribute {
	case manifest.AttrExtra:
		return "*deleting  "
	case manifest.AttrMissing, manifest.AttrType:
		if letter == "f" {
			return ">f+++++++++"
		}
		return "c" + letter + "+++++++++"
	}
	out := []byte("." + letter + ".........")
	for _, d := range diffs {
		switch d.Attribute {
		case manifest.AttrContent:
			out[0], out[2] = '>', 'c'
		case manifest.AttrSize:
			out[0], out[2], out[3] = '>', 'c', 's'
		case manifest.AttrLink, manifest.AttrDevice:
			out[0], out[2] = 'c', 'c'
		case manifest.AttrLinks:
			if out[0] == '.' {
				out[0] = 'h'
			}
		case manifest.AttrTime:
			out[4] = 't'
		case manifest.AttrMode:
			out[5] = 'p'
		case manifest.AttrUID:
			out[6] = 'o'
		case manifest.AttrGID:
			out[7] = 'g'
		case manifest.AttrXattr + "system.posix_acl_access", manifest.AttrXattr + "system.posix_acl_default":
			out[9] = 'a'
		default:
			out[10] = 'x'
		}
	}
	return string(out)
}

func phrase(d manifest.Difference) string {
	switch d.Attribute {
	case manifest.AttrMissing:
		return "missing"
	case manifest.AttrExtra:
		return "extra " + d.Got
	case manifest.AttrContent:
		return "content differs"
	case manifest.AttrUID:
		return "owner " + d.Want + " -> " + d.Got
	case manifest.AttrGID:
		return "group " + d.Want + " -> " + d.Got
	case manifest.AttrLinks:
		return d.Want + " -> " + d.Got
	}
	name := strings.TrimPrefix(d.Attribute, manifest.AttrXattr)
	return name + " " + cmp.Or(d.Want, "none") + " -> " + cmp.Or(d.Got, "none")
}
