package wire

import (
	"fmt"
	"regexp"
	"strings"
)

var addonName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// CheckAddon refuses what does not name an add-on (ADDONS), a tree of files that
// the agent lays over its ramdisk. One that comes with the appliance has a NAME
// of letters, digits and dashes, any other is an image: ROLE/VERSION.
func CheckAddon(name string) error {
	role, version, image := strings.Cut(name, "/")
	if image {
		if _, err := NewImageRef(role, version); err != nil {
			return fmt.Errorf("add-on %.80q: %w", name, err)
		}
		return nil
	}
	if !addonName.MatchString(name) {
		return fmt.Errorf("add-on %.80q: want ROLE/VERSION, or a name of a-z, 0-9 and dashes", name)
	}
	return nil
}

// AddonNames are the names in Addons.
func (a BootArgs) AddonNames() []string {
	return strings.FieldsFunc(a.Addons, func(r rune) bool { return r == ',' })
}

// AddonImages are those of them that are images.
func (a BootArgs) AddonImages() []ImageRef {
	var all []ImageRef
	for _, name := range a.AddonNames() {
		if role, version, image := strings.Cut(name, "/"); image {
			all = append(all, ImageRef{role, version})
		}
	}
	return all
}

// AddonURL is where an add-on's archive is; its manifest is beside it.
func (a BootArgs) AddonURL(name string) string {
	if role, version, image := strings.Cut(name, "/"); image {
		return a.ImageURL(ImageRef{role, version}.Archive())
	}
	return a.serverURL("/boot/file/addons/" + name + ".edeploy")
}
