package initrd

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"

	"edeploy/initrd/internal/pick"
	"edeploy/initrd/internal/tree"
)

// firmware are the files that the named kernel modules may load into their
// devices, as the modules say themselves. None is insisted on: drivers name
// files for every variant of their devices, and Debian has not all of them.
func firmware(t *tree.Tree, names []string) ([]pick.Line, error) {
	var lines []pick.Line
	for _, name := range names {
		if !strings.HasSuffix(name, ".ko") {
			continue
		}
		entry, _ := t.Get(name)
		wanted, err := moduleInfo(entry.Data, "firmware")
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, file := range wanted {
			lines = append(lines, pick.Line{Pattern: "usr/lib/firmware/" + file, Optional: true})
		}
	}
	return lines, nil
}

// moduleInfo are the values of a key in a kernel module's section .modinfo,
// "key=value" strings that end in a zero (modinfo(8)).
func moduleInfo(module []byte, key string) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, nil
	}
	data, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("read .modinfo: %w", err)
	}
	var values []string
	for pair := range bytes.SplitSeq(data, []byte{0}) {
		if value, ok := bytes.CutPrefix(pair, []byte(key+"=")); ok {
			values = append(values, string(value))
		}
	}
	return values, nil
}
