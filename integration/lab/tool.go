package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// packages says which Debian package brings a program or a file.
var packages = map[string]string{
	"qemu-system-x86_64":              "qemu-system-x86",
	"qemu-img":                        "qemu-utils",
	"debugfs":                         "e2fsprogs",
	"mke2fs":                          "e2fsprogs",
	"cp":                              "coreutils",
	"partx":                           "util-linux",
	"/usr/share/OVMF/OVMF_CODE_4M.fd": "ovmf",
	"/usr/share/OVMF/OVMF_VARS_4M.fd": "ovmf",
	"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd": "ovmf",
	"/usr/share/OVMF/OVMF_VARS_4M.ms.fd":      "ovmf",
}

// findTool is the path of a program; unlike exec.LookPath it looks in the
// directories for administrators too, which a user's PATH leaves out.
func findTool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", missing(name)
}

// findFile checks that a file of another package is there.
func findFile(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", missing(path)
	}
	return path, nil
}

func missing(name string) error {
	return fmt.Errorf("%s is missing: install it with `apt-get install %s`", name, packages[name])
}
