package store

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/google/renameio/v2"
)

// syncsAtOnce is how many files of one commit are brought to the disk at the
// same time: a file system writes its log once for all that wait for it.
const syncsAtOnce = 64

// written is a document of a commit on its way to the disk.
type written struct {
	root *os.Root
	file string
	new  *renameio.PendingFile // nil: the document is removed
}

// putAll replaces and removes the documents of a commit whose journal is
// written. Every file is written, then all are synced and get their names side by
// side, then every directory is synced once.
func (d *Dir) putAll(intents []intent) (err error) {
	var all []written
	defer func() {
		for _, w := range all {
			if w.new != nil {
				_ = w.new.Cleanup() // nothing is left of those that have their name
			}
		}
	}()
	for _, in := range intents {
		at, file, err := d.locate(in.Name)
		if err != nil {
			return err
		}
		w := written{root: at.root, file: file}
		if !in.Delete {
			if w.new, err = d.write(at.root, file, in.Text, 0o644); err != nil {
				return err
			}
		}
		all = append(all, w)
	}
	if err := d.nameAll(all); err != nil {
		return err
	}
	return d.syncDirectories(all)
}

// nameAll brings new files to the disk, gives them their names, and removes
// those that are to go.
func (d *Dir) nameAll(all []written) error {
	var wait sync.WaitGroup
	places := make(chan struct{}, syncsAtOnce)
	errs := make([]error, len(all))
	for i, w := range all {
		if w.new == nil {
			errs[i] = d.unlink(w.root, w.file)
		} else {
			errs[i] = d.step("rename " + w.file)
		}
		if errs[i] != nil {
			break
		}
		if w.new == nil {
			continue
		}
		places <- struct{}{}
		wait.Go(func() {
			if err := w.new.CloseAtomicallyReplace(); err != nil {
				errs[i] = fmt.Errorf("write %s: %w", w.file, err)
			}
			<-places
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// syncDirectories makes the new names durable.
func (d *Dir) syncDirectories(all []written) error {
	done := map[*os.Root]bool{}
	for _, w := range all {
		if done[w.root] {
			continue
		}
		done[w.root] = true
		if err := d.sync(w.root, w.file); err != nil {
			return err
		}
	}
	return nil
}
