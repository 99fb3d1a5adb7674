package transaction

import (
	"fmt"
	"path/filepath"
)

// makeSlots makes the transaction's directory on every file system; in the
// root's lies first of all where the others are.
func (d *disk) makeSlots(j *journal) error {
	for i := range j.FileSystems {
		fs := &j.FileSystems[i]
		if err := d.makeTop(string(fs.Mount)); err != nil {
			return err
		}
		dir := slots(string(fs.Mount), j.Number)
		if err := d.mkdir(dir, 0o700); err != nil {
			return err
		}
		if i == 0 {
			err := d.writeJournal(&journal{Number: j.Number, From: j.From, To: j.To, Began: j.Began, FileSystems: j.FileSystems})
			if err != nil {
				return err
			}
		}
		var err error
		if fs.Exchange, err = d.canExchange(fs, dir); err != nil {
			return err
		}
	}
	return nil
}

// makeTop makes Dir at the top of a file system and leaves the top's time. A
// power cut between the two, once in the life of a file system, costs that time.
func (d *disk) makeTop(mount string) error {
	top := filepath.Join(mount, Dir)
	st, err := d.lookup(top)
	switch {
	case err != nil:
		return err
	case st != nil && isDir(st):
		return nil
	case st != nil:
		return fmt.Errorf("%s: it is in the way of the upgrade's directory", d.name(top))
	}
	if st, err = d.stat(mount); err != nil {
		return err
	}
	if err := d.mkdir(top, 0o700); err != nil {
		return err
	}
	return d.setTime(mount, modified(st))
}

// unstableInodes are file systems whose inode numbers may be others after a mount.
var unstableInodes = map[string]bool{"vfat": true, "msdos": true, "exfat": true, "overlay": true, "ntfs3": true, "9p": true}

func (d *disk) canExchange(fs *fileSystem, dir string) (bool, error) {
	if unstableInodes[fs.Type] || d.test.noExchange {
		return false, nil
	}
	a, b := dir+"/a", dir+"/b"
	for _, p := range []string{a, b} {
		if err := d.mkdir(p, 0o700); err != nil {
			return false, err
		}
	}
	able := d.exchange(a, b) == nil
	for _, p := range []string{a, b} {
		if err := d.removeAll(p); err != nil {
			return false, err
		}
	}
	return able, nil
}
