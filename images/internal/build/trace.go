package build

import (
	"archive/tar"
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"

	"edeploy/images/internal/role"
)

// maxTraced bounds the files that are looked into for traces of one machine.
const maxTraced = 64 << 10

// traced are the directories of them. What packages bring below /usr is the same
// everywhere: keys in there are examples.
var traced = []string{"etc", "home", "opt", "root", "srv", "usr/local", "var"}

// traces are contents that belong to one machine, whatever the package.
var traces = []struct {
	path *regexp.Regexp // nil: any
	text *regexp.Regexp
	what string
}{
	{nil, regexp.MustCompile(`(?m)^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----\r?$`), "holds a private key"},
	{nil, regexp.MustCompile(`(?m)^InitiatorName=iqn\.`), "names an iSCSI initiator"},
	{regexp.MustCompile(`\.rules$`), regexp.MustCompile(`(?im)^[^#\n]*ATTR\{address\}=="([0-9a-f]{2}:){5}[0-9a-f]{2}"`), "names a network card"},
	{regexp.MustCompile(`mdadm\.conf$`), regexp.MustCompile(`(?m)^ARRAY `), "names an array"},
	{regexp.MustCompile(`\.leases?$`), regexp.MustCompile(`(?m)^\s*(lease\b|[A-Z_]*ADDRESS=)`), "holds a DHCP lease"},
	{nil, regexp.MustCompile(`(?m)^MY_HOSTID="?[0-9a-f]`), "has an identity for popularity-contest"},
}

// trace says what of one machine a file has, "" for nothing.
func trace(name string, content []byte) string {
	if bytes.IndexByte(content, 0) >= 0 {
		return ""
	}
	for _, t := range traces {
		if (t.path == nil || t.path.MatchString(name)) && t.text.Match(content) {
			return t.what
		}
	}
	return ""
}

// isTraced says whether a file is to be looked into.
func isTraced(name string, h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg && h.Size <= maxTraced &&
		slices.ContainsFunc(traced, func(dir string) bool { return strings.HasPrefix(name, dir+"/") })
}

// machines lists what belongs to one machine: by content, and the paths that are
// known to. What machines may share is left out.
func (t *tree) machines(known []role.Machine, shared []string) []string {
	found := map[string]string{}
	for _, m := range known {
		for _, pattern := range m.Paths {
			for _, name := range t.match(strings.TrimPrefix(path.Clean(pattern), "/")) {
				found["/"+name] = "belongs to one machine (" + m.Name + ")"
			}
		}
	}
	for name, what := range t.traces {
		found["/"+name] = what
	}
	var sentences []string
	for name, what := range found {
		if !role.AnyFits(shared, name) {
			sentences = append(sentences, name+" "+what+": every machine would share it")
		}
	}
	slices.Sort(sentences)
	return sentences
}
