package wire

import (
	"fmt"
	"strings"
)

// ImageRef names one version of one role. Below the directory that the rsync
// module [install] and the URL /install/ serve it is found at:
//
//	VERSION/ROLE/                  the tree
//	VERSION/ROLE-VERSION.mtree     its manifest, mtree(5)
//	VERSION/ROLE-VERSION.edeploy   its archive, tar (zstd, or gzip when imported)
type ImageRef struct {
	Role    string `json:"role"`
	Version string `json:"version"`
}

// NewImageRef checks the two names: letters, digits and ".+~_-" only, and not
// starting with a dot or a dash, so that they are safe in paths and commands.
func NewImageRef(role, version string) (ImageRef, error) {
	r := ImageRef{role, version}
	if err := checkName("role", role); err != nil {
		return r, err
	}
	return r, checkName("version", version)
}

func checkName(kind, name string) error {
	if name == "" {
		return fmt.Errorf("%s name is empty", kind)
	}
	if len(name) > 100 {
		return fmt.Errorf("%s name %.20q... is longer than 100 characters", kind, name)
	}
	if name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("%s name %q starts with %q", kind, name, name[:1])
	}
	for _, c := range name {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+~_-", c) {
			return fmt.Errorf("%s name %q holds %q: use letters, digits and . + ~ _ -", kind, name, c)
		}
	}
	return nil
}

func (r ImageRef) String() string { return r.Role + " " + r.Version }

// Tree is the path of the tree.
func (r ImageRef) Tree() string { return r.Version + "/" + r.Role }

// Manifest is the path of the manifest.
func (r ImageRef) Manifest() string { return r.Version + "/" + r.Role + "-" + r.Version + ".mtree" }

// Archive is the path of the archive.
func (r ImageRef) Archive() string { return r.Version + "/" + r.Role + "-" + r.Version + ".edeploy" }
