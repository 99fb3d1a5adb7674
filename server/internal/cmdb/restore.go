package cmdb

import "edeploy/server/internal/literal"

// Restore gives a machine the entry that it held and has given back. False:
// the file has the entry no more, or taken says that another machine has it.
func (f *File) Restore(before, after *literal.Dict, taken func(*literal.Dict) bool) (*File, bool) {
	for i, e := range f.entries {
		if literal.Equal(e.dict, before) && (taken == nil || !taken(e.dict)) {
			return f.with(i, after), true
		}
	}
	return f, false
}
