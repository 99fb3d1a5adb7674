package leftover

// For tests of the decisions.
var (
	ServiceOf    = serviceOf
	OnlyByReboot = onlyByReboot
	Plain        = plain
)

// ParseMapping answers the fields of a mapping.
func ParseMapping(line string) (path string, deleted bool, inode uint64, ok bool) {
	m, ok := parseMapping(line)
	return m.path, m.deleted, m.inode, ok
}
