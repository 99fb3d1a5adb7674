package catalog

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"edeploy/server/api"
	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

// Bounds of unfinished uploads, archives and manifests counted each. When one
// is reached, an upload that nobody continued for so long is given up.
const (
	maxUnfinished     = 64
	maxUnfinishedPeer = maxUnfinished / 4
	forgotten         = time.Hour
)

// Unfinished lists uploads that are not published, the longest untouched
// first, and what had to be put aside.
func (c *Catalog) Unfinished() ([]api.Unfinished, error) {
	found, err := c.unfinished()
	if err != nil {
		return nil, fmt.Errorf("list uploads: %w", err)
	}
	aside, err := os.ReadDir(c.Dir(brokenDir))
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list uploads: %w", err)
	}
	for _, e := range aside {
		found = append(found, api.Unfinished{Aside: path.Join(brokenDir, e.Name()), Broken: "it could not be removed: remove it by hand"})
	}
	return found, nil
}

func (c *Catalog) unfinished() ([]api.Unfinished, error) {
	entries, err := os.ReadDir(c.incoming(""))
	if err != nil {
		return nil, err
	}
	found := []api.Unfinished{}
	for _, e := range entries {
		ref, part, ok := parsePart(strings.TrimSuffix(e.Name(), stateSuffix))
		if !ok || slices.ContainsFunc(found, func(u api.Unfinished) bool { return u.ImageRef == ref && u.Part == part }) {
			continue
		}
		u := api.Unfinished{ImageRef: ref, Part: part}
		state, err := c.Upload(ref, part)
		if err != nil {
			u.Broken = err.Error()
		}
		u.Offset, u.Length, u.Peer = state.Offset, state.Length, state.Peer
		for _, name := range []string{c.partFile(ref, part), c.partFile(ref, part) + stateSuffix} {
			if info, err := os.Stat(name); err == nil && info.ModTime().After(u.Changed) {
				u.Changed = info.ModTime().UTC()
			}
		}
		found = append(found, u)
	}
	slices.SortStableFunc(found, func(a, b api.Unfinished) int { return a.Changed.Compare(b.Changed) })
	return found, nil
}

// parsePart is the inverse of partFile.
func parsePart(name string) (wire.ImageRef, api.Part, bool) {
	suffix := path.Ext(name)
	version, role, _ := strings.Cut(strings.TrimSuffix(name, suffix), "=")
	ref, err := wire.NewImageRef(role, version)
	part := api.Part(strings.TrimPrefix(suffix, "."))
	return ref, part, err == nil && (part == api.PartArchive || part == api.PartManifest)
}

// Forget removes the unfinished uploads of an image; the error wraps
// ErrNotFound when there are none.
func (c *Catalog) Forget(ref wire.ImageRef) error {
	release, err := c.reserve(ref)
	if err != nil {
		return err
	}
	defer release()
	found, err := c.unfinished()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(found, func(u api.Unfinished) bool { return u.ImageRef == ref }) {
		return fmt.Errorf("uploads of %s: %w", ref, ErrNotFound)
	}
	return c.dropUploads(ref)
}

// makeRoom sees to it that one more upload is within the bounds, and gives up
// forgotten ones if need be.
func (c *Catalog) makeRoom(ref wire.ImageRef, part api.Part, u Upload) error {
	found, err := c.unfinished()
	if err != nil {
		return err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(c.top, &s); err != nil {
		return err
	}
	found = slices.DeleteFunc(found, func(o api.Unfinished) bool { return o.ImageRef == ref && o.Part == part })
	for {
		reason := exceeded(found, ref, u, int64(s.Blocks)*s.Bsize)
		if reason == nil {
			return nil
		}
		i := slices.IndexFunc(found, func(o api.Unfinished) bool { return o.ImageRef != ref && c.now().Sub(o.Changed) >= forgotten })
		if i < 0 {
			return reason
		}
		old := found[i].ImageRef
		if err := c.Forget(old); err != nil && !errors.Is(err, ErrBusy) {
			return err
		}
		c.log.Warn("unfinished upload is given up for another one", "image", old.String(), "reason", reason)
		found = slices.DeleteFunc(found, func(o api.Unfinished) bool { return o.ImageRef == old })
	}
}

// exceeded says which bound one more upload would exceed. Uploads take at most
// half of the file system, those of one peer a quarter; a single image may be
// larger.
func exceeded(others []api.Unfinished, ref wire.ImageRef, u Upload, capacity int64) error {
	const cure = "continue or publish them, or remove them with DELETE /api/v1/images/VERSION/ROLE/uploads"
	mine, bytes, myBytes, alone, aloneMine := 0, u.Length, u.Length, true, true
	for _, o := range others {
		bytes += o.Offset
		alone = alone && o.ImageRef == ref
		if o.Peer == u.Peer {
			mine++
			myBytes += o.Offset
			aloneMine = aloneMine && o.ImageRef == ref
		}
	}
	switch {
	case mine >= maxUnfinishedPeer:
		return fmt.Errorf("%w: %d uploads of %s are unfinished, no more are taken: %s", ErrNoSpace, mine, u.Peer, cure)
	case len(others) >= maxUnfinished:
		return fmt.Errorf("%w: %d uploads are unfinished, no more are taken: %s", ErrNoSpace, len(others), cure)
	case !aloneMine && myBytes > capacity/4:
		return fmt.Errorf("%w: unfinished uploads of %s take %d MB, at most %d are kept: %s", ErrNoSpace, u.Peer, myBytes>>20, capacity/4>>20, cure)
	case !alone && bytes > capacity/2:
		return fmt.Errorf("%w: unfinished uploads take %d MB, at most %d are kept: %s", ErrNoSpace, bytes>>20, capacity/2>>20, cure)
	}
	return nil
}
