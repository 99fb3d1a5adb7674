package detect

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/u-root/u-root/pkg/smbios"
)

// dmiTables are the firmware's tables (SMBIOS, DMTF DSP0134), a vendor's work.
const dmiTables = "sys/firmware/dmi/tables/DMI"

// eachTable calls look for the tables of a kind. A table that look cannot read
// costs itself, one that is no table costs what comes behind it; the error
// says both. A machine without tables is none.
func eachTable(r reader, kind smbios.TableType, look func(*smbios.Table) error) error {
	data, err := r.bytes(dmiTables)
	if err != nil {
		return unless(err, fs.ErrNotExist)
	}
	var problems []error
	for len(data) > 0 {
		table, rest, err := parsed(func() (*smbios.Table, []byte, error) { return smbios.ParseTable(data) })
		if table != nil && table.Type == smbios.TableTypeEndOfTable {
			break
		}
		if err != nil || table == nil || len(rest) >= len(data) {
			problems = append(problems, fmt.Errorf("SMBIOS tables, %d bytes before their end: %w", len(data), err))
			break
		}
		if table.Type == kind {
			_, _, err := parsed(func() (*smbios.Table, []byte, error) { return table, nil, look(table) })
			if err != nil {
				problems = append(problems, fmt.Errorf("SMBIOS table %#04x (%s): %w", table.Handle, kind, err))
			}
		}
		data = rest
	}
	return errors.Join(problems...)
}

// parsed makes an error of a panic over an unexpected form.
func parsed(parse func() (*smbios.Table, []byte, error)) (table *smbios.Table, rest []byte, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			table, rest, err = nil, nil, fmt.Errorf("unexpected form: %v", reason)
		}
	}()
	return parse()
}
