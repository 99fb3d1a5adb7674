package configure

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.starlark.net/starlark"
)

// raid1(array, members) makes a RAID 1 array of block devices. What was on them
// is gone.
func (e *helperEnv) raid1(args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
	var array string
	var list starlark.Iterable
	if err := starlark.UnpackArgs("raid1", args, kwargs, "array", &array, "members", &list); err != nil {
		return nil, err
	}
	var members []string
	for v := range starlark.Elements(list) {
		name, ok := starlark.AsString(v)
		if !ok {
			return nil, fmt.Errorf("raid1: the member %v is not a string", v)
		}
		members = append(members, name)
	}
	command, err := raid1(array, members)
	if err != nil {
		return nil, err
	}
	return starlark.None, e.shell(command)
}

// deviceName is a name that the shell takes as it is.
var deviceName = regexp.MustCompile(`^/dev/[A-Za-z0-9_.:+@/-]+$`)

// raid1 is the command that makes an array. Signatures of file systems, volumes
// and arrays that the members and, at the same place, an earlier array had would
// be found again. homehost=any keeps the array's name on every host.
func raid1(array string, members []string) (string, error) {
	if !strings.HasPrefix(array, "/dev/md") {
		return "", fmt.Errorf("raid1: the array %q: want a name such as /dev/md0", array)
	}
	for i, name := range append([]string{array}, members...) {
		if !deviceName.MatchString(name) {
			return "", fmt.Errorf("raid1: %q is not the name of a block device", name)
		}
		if i > 0 && slices.Contains(members[i:], name) {
			return "", fmt.Errorf("raid1: the member %s is named twice", name)
		}
	}
	if len(members) < 2 {
		return "", fmt.Errorf("raid1: %d members: want two or more", len(members))
	}
	all := strings.Join(members, " ")
	return fmt.Sprintf("wipefs -q -a %s && mdadm --create %s --run --quiet --homehost=any --level=1 --raid-devices=%d %s && wipefs -q -a %s",
		all, array, len(members), all, array), nil
}
