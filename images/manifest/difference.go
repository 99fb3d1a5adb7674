package manifest

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// Attributes that a Difference names, besides "xattr." + NAME.
const (
	AttrMissing = "missing" // in the manifest only; Want is the type
	AttrExtra   = "extra"   // on the disk only; Got is the type
	AttrType    = "type"
	AttrSize    = "size"
	AttrContent = "content" // SHA-256, when the sizes are the same
	AttrLink    = "link"    // target of a symbolic link
	AttrDevice  = "device"  // major,minor
	AttrMode    = "mode"
	AttrUID     = "uid"
	AttrGID     = "gid"
	AttrTime    = "time" // RFC 3339 with nanoseconds, UTC
	AttrLinks   = "hardlink"
	AttrXattr   = "xattr." // prefix
)

// Difference is one attribute of one path that is not as it should be.
type Difference struct {
	Path      string `json:"-"`              // raw bytes; Escape makes it printable
	Type      Type   `json:"-"`              // type of the path (of the wanted one, when there is one)
	Attribute string `json:"attribute"`      // one of the constants above
	Want      string `json:"want,omitempty"` // text of the two values; "" when there is none
	Got       string `json:"got,omitempty"`
}

// String is one printable line: "usr/bin/su: mode 4755 -> 0755".
func (d Difference) String() string {
	switch d.Attribute {
	case AttrMissing:
		return fmt.Sprintf("%s: %s is missing", Escape(d.Path), d.Want)
	case AttrExtra:
		return fmt.Sprintf("%s: extra %s", Escape(d.Path), d.Got)
	}
	return fmt.Sprintf("%s: %s %s -> %s", Escape(d.Path), d.Attribute, cmp.Or(d.Want, "(none)"), cmp.Or(d.Got, "(none)"))
}

// Summary is one printable line of the first differences.
func Summary(diffs []Difference) string {
	const most = 5
	var lines []string
	for _, d := range diffs[:min(most, len(diffs))] {
		lines = append(lines, d.String())
	}
	if len(diffs) > most {
		lines = append(lines, fmt.Sprintf("and %d more", len(diffs)-most))
	}
	return strings.Join(lines, "; ")
}

// Diff tells what changes from a to b: Want is a's value, Got is b's; paths
// only in a are "missing", paths only in b "extra". In path order.
func Diff(a, b *Manifest) []Difference {
	var diffs []Difference
	i, j := 0, 0
	for i < len(a.Entries) || j < len(b.Entries) {
		switch order := nextPath(a, i, b, j); {
		case order < 0:
			diffs = append(diffs, Compare(&a.Entries[i], nil)...)
			i++
		case order > 0:
			diffs = append(diffs, Compare(nil, &b.Entries[j])...)
			j++
		default:
			diffs = append(diffs, Compare(&a.Entries[i], &b.Entries[j])...)
			i++
			j++
		}
	}
	diffs = append(diffs, a.CompareLinks(func(i int) (FileID, bool) {
		e, ok := b.Lookup(a.Entries[i].Path)
		if !ok || e.Type == Dir || e.Type != a.Entries[i].Type {
			return FileID{}, false
		}
		if e.Group == 0 { // a file of its own: no two indexes are the same
			return FileID{Inode: uint64(i), Dev: 1}, true
		}
		return FileID{Inode: uint64(e.Group), Dev: 2}, true
	}, false)...)
	SortDifferences(diffs)
	return diffs
}

func nextPath(a *Manifest, i int, b *Manifest, j int) int {
	switch {
	case i == len(a.Entries):
		return 1
	case j == len(b.Entries):
		return -1
	}
	return comparePaths(a.Entries[i].Path, b.Entries[j].Path)
}

// SortDifferences sorts by path, as a manifest is.
func SortDifferences(diffs []Difference) {
	slices.SortStableFunc(diffs, func(a, b Difference) int { return comparePaths(a.Path, b.Path) })
}

// ByPath are the differences of one path after the other, of some in path order.
func ByPath(diffs []Difference) iter.Seq[[]Difference] {
	return func(yield func([]Difference) bool) {
		for len(diffs) > 0 {
			end := slices.IndexFunc(diffs, func(d Difference) bool { return d.Path != diffs[0].Path })
			if end < 0 {
				end = len(diffs)
			}
			if !yield(diffs[:end]) {
				return
			}
			diffs = diffs[end:]
		}
	}
}

// Compare compares two entries in all but the path and the hard-link group. One
// that is nil is not there.
func Compare(want, got *Entry) []Difference {
	switch {
	case got == nil:
		return []Difference{{Path: want.Path, Type: want.Type, Attribute: AttrMissing, Want: string(want.Type)}}
	case want == nil:
		return []Difference{{Path: got.Path, Type: got.Type, Attribute: AttrExtra, Got: string(got.Type)}}
	}
	var diffs []Difference
	add := func(attribute, w, g string) {
		diffs = append(diffs, Difference{want.Path, want.Type, attribute, w, g})
	}
	if want.Type != got.Type {
		add(AttrType, string(want.Type), string(got.Type))
		return diffs
	}
	switch {
	case want.Size != got.Size:
		add(AttrSize, fmt.Sprint(want.Size), fmt.Sprint(got.Size))
	case want.SHA256 != got.SHA256:
		add(AttrContent, hex.EncodeToString(want.SHA256[:]), hex.EncodeToString(got.SHA256[:]))
	}
	if want.Link != got.Link {
		add(AttrLink, Escape(want.Link), Escape(got.Link))
	}
	if want.Major != got.Major || want.Minor != got.Minor {
		add(AttrDevice, deviceText(want), deviceText(got))
	}
	if want.Mode != got.Mode && want.Type != Symlink {
		add(AttrMode, modeText(want.Mode), modeText(got.Mode))
	}
	if want.UID != got.UID {
		add(AttrUID, fmt.Sprint(want.UID), fmt.Sprint(got.UID))
	}
	if want.GID != got.GID {
		add(AttrGID, fmt.Sprint(want.GID), fmt.Sprint(got.GID))
	}
	if !want.ModTime.Equal(got.ModTime) {
		add(AttrTime, timeText(want.ModTime), timeText(got.ModTime))
	}
	return append(diffs, compareXattrs(want, got)...)
}

func compareXattrs(want, got *Entry) []Difference {
	if len(want.Xattrs) == 0 && len(got.Xattrs) == 0 {
		return nil
	}
	names := map[string][]byte{}
	maps.Copy(names, want.Xattrs)
	maps.Copy(names, got.Xattrs)
	var diffs []Difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w, inWant := want.Xattrs[name]
		g, inGot := got.Xattrs[name]
		if inWant != inGot && !(inGot && SetBySystem(name)) || string(w) != string(g) && inWant && inGot {
			diffs = append(diffs, Difference{want.Path, want.Type, AttrXattr + Escape(name), xattrText(w, inWant), xattrText(g, inGot)})
		}
	}
	return diffs
}

// SetBySystem names extended attributes that a running kernel's policy puts on files by
// itself; one that the manifest does not name is no difference and is not removed.
func SetBySystem(name string) bool {
	return name == "security.selinux" || name == "security.ima" || name == "security.evm"
}

// InTree tells whether an extended attribute is part of a tree. Attributes of the
// place where it lies are not: those of an overlay mount, and other file systems'
// views of their own permissions, such as the second names that XFS has for ACLs.
func InTree(xattr string) bool {
	if strings.HasPrefix(xattr, "system.") {
		return xattr == "system.posix_acl_access" || xattr == "system.posix_acl_default"
	}
	return !strings.HasPrefix(xattr, "trusted.overlay.") && !strings.HasPrefix(xattr, "trusted.SGI_ACL_")
}

func modeText(mode uint32) string { return fmt.Sprintf("%04o", mode) }
func deviceText(e *Entry) string  { return fmt.Sprintf("%d,%d", e.Major, e.Minor) }
func timeText(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000000Z") }
func xattrText(v []byte, there bool) string {
	if !there {
		return ""
	}
	return "0x" + hex.EncodeToString(v)
}
