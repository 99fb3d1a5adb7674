package build

import (
	"archive/tar"
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// tarPackages lists the installed Debian packages of a tree, "name version" a
// line in the order of names. A tree without dpkg has none.
func tarPackages(r io.Reader) ([]string, error) {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read tree for its packages: %w", err)
		}
		if path.Clean(h.Name) == "var/lib/dpkg/status" {
			return dpkgStatus(t)
		}
	}
}

// dpkgStatus reads dpkg's status file: blocks of "Field: value" lines.
func dpkgStatus(r io.Reader) ([]string, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 4<<20)
	var packages []string
	var name, version, status string
	add := func() {
		if name != "" && strings.HasSuffix(status, " installed") {
			packages = append(packages, name+" "+version)
		}
		name, version, status = "", "", ""
	}
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimSpace(value)
		switch field {
		case "":
			add()
		case "Package":
			name = value
		case "Version":
			version = value
		case "Status":
			status = value
		}
	}
	add()
	slices.Sort(packages)
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read var/lib/dpkg/status: %w", err)
	}
	return packages, nil
}
