package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/images/manifest/fstree"
	"edeploy/server/api"
	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

// Publish makes an image of the uploaded parts: the archive is unpacked aside,
// compared with its sum and its manifest, every entry of the tree is verified,
// and then all three become visible. An archive of an original eDeploy has no
// manifest; it gets one. Without uploads, a tree that was put in by hand and
// has no manifest gets its manifest. After an error nothing is visible and the
// uploads are still there, unless their content was at fault.
func (c *Catalog) Publish(ctx context.Context, ref wire.ImageRef, peer string, tell func(api.Publishing)) (api.Image, error) {
	image, err := c.Get(ref)
	if err == nil && image.Complete {
		return image, fmt.Errorf("%s: %w", ref, ErrExists)
	}
	upload, uploadErr := c.Upload(ref, api.PartArchive)
	if errors.Is(uploadErr, fs.ErrNotExist) {
		if info, err := os.Stat(c.install(ref.Tree())); err != nil || !info.IsDir() {
			return image, fmt.Errorf("publish %s: nothing was uploaded and there is no tree: %w", ref, ErrNotFound)
		}
		if image.Broken != "" {
			return image, fmt.Errorf("publish %s: its manifest is broken, delete the image and push it again: %s", ref, image.Broken)
		}
		tell(api.Publishing{Step: "verify"})
		if err := c.describe(ctx, ref); err != nil {
			return image, fmt.Errorf("publish %s: %w", ref, err)
		}
		return c.Get(ref)
	}
	if uploadErr != nil {
		return image, uploadErr
	}
	release, err := c.reserve(ref)
	if err != nil {
		return image, err
	}
	defer release()
	leave, err := c.admit(ctx, peer, tell)
	if err != nil {
		return image, err
	}
	defer leave()
	if err := c.publish(ctx, ref, upload, tell); err != nil {
		return image, fmt.Errorf("publish %s: %w", ref, err)
	}
	return c.Get(ref)
}

// admit waits until the peer may unpack a tree, which ends with leave.
func (c *Catalog) admit(ctx context.Context, peer string, tell func(api.Publishing)) (leave func(), err error) {
	if leave, err = c.unpacking.Try(peer); err == nil {
		return leave, nil
	}
	tell(api.Publishing{Step: "waiting"})
	return c.unpacking.Wait(ctx, peer)
}

func (c *Catalog) publish(ctx context.Context, ref wire.ImageRef, upload Upload, tell func(api.Publishing)) error {
	if upload.Offset != upload.Length {
		return fmt.Errorf("the archive is not complete: %d of %d bytes are here", upload.Offset, upload.Length)
	}
	text, err := c.Upload(ref, api.PartManifest)
	if err == nil && text.Offset != text.Length {
		return fmt.Errorf("the manifest is not complete: %d of %d bytes are here", text.Offset, text.Length)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := c.unpackAndReveal(ctx, ref, upload, text, tell); err != nil {
		if ctx.Err() != nil || isOurs(err) {
			return full(err)
		}
		// The uploads are at fault.
		return errors.Join(err, c.dropUploads(ref))
	}
	return nil
}

// unpackAndReveal publishes complete parts; text is that of no bytes when no
// manifest was uploaded.
func (c *Catalog) unpackAndReveal(ctx context.Context, ref wire.ImageRef, archive, text Upload, tell func(api.Publishing)) error {
	bounds, err := c.bounds(ref, archive, text)
	if err != nil {
		return err
	}
	room, err := c.promise(ref, c.treeSpace(ref, archive))
	if err != nil {
		return err
	}
	defer room.end()
	stage, err := os.MkdirTemp(c.incoming(""), "unpack-")
	if err != nil {
		return err
	}
	defer c.discard(stage)
	tree := filepath.Join(stage, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	u := unpacking{bounds, room, tell}
	got, err := c.unpack(ctx, ref, archive, tree, u)
	if err != nil {
		return err
	}
	// What unpacking took would else be there beside the manifest and its check.
	debug.FreeOSMemory()
	defer debug.FreeOSMemory()
	want := got
	if text.Length > 0 {
		if want, err = fromFile(c.partFile(ref, api.PartManifest), manifest.Read); err != nil {
			return err
		}
	}
	if err := c.verify(ctx, want, got, tree, tell); err != nil {
		return err
	}
	return c.reveal(ref, want, stage)
}

// unpacking is how an archive is unpacked.
type unpacking struct {
	bounds archive.Options
	room   *promise
	tell   func(api.Publishing)
}

// bounds are what an archive may hold: what its manifest says, which is looked
// at before the work begins. Without a manifest it may be so many times as
// large as it is packed, as long as there is space.
func (c *Catalog) bounds(ref wire.ImageRef, packed, text Upload) (archive.Options, error) {
	o := archive.Options{Workers: 2}
	if text.Length > 0 {
		total, err := c.checkManifest(ref, text)
		o.MaxBytes, o.MaxEntries = max(total.Bytes, 1), max(total.Entries, 1)
		return o, err
	}
	const ratio, least = 64, 64 << 20
	free, err := c.free()
	o.MaxBytes = max(min(ratio*packed.Length+least, free.bytes), 1)
	o.MaxEntries = int(max(min(manifest.MaxEntries, free.inodes), 1))
	return o, err
}

// checkManifest compares the sum of an uploaded manifest and measures it.
func (c *Catalog) checkManifest(ref wire.ImageRef, upload Upload) (manifest.Total, error) {
	f, err := os.Open(c.partFile(ref, api.PartManifest))
	if err != nil {
		return manifest.Total{}, err
	}
	defer f.Close()
	sum := sha256.New()
	total, err := manifest.Measure(io.TeeReader(f, sum))
	if _, copyErr := io.Copy(sum, f); copyErr != nil {
		return total, copyErr
	}
	if sumErr := compareSum("manifest", sum, upload); sumErr != nil {
		err = sumErr // the better reason
	}
	return total, err
}

func compareSum(what string, sum hash.Hash, upload Upload) error {
	if got := hex.EncodeToString(sum.Sum(nil)); got != upload.SHA256 {
		return fmt.Errorf("the %s was damaged on its way: its sha256 is %s, announced was %s; upload it again", what, got, upload.SHA256)
	}
	return nil
}

// unpack extracts the archive and compares its sum, reading it once.
func (c *Catalog) unpack(ctx context.Context, ref wire.ImageRef, upload Upload, tree string, u unpacking) (*manifest.Manifest, error) {
	f, err := os.Open(c.partFile(ref, api.PartArchive))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sum := sha256.New()
	raw := &counted{r: io.TeeReader(f, sum), total: upload.Length, tell: u.tell}
	m, err := c.extract(ctx, raw, tree, u)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if isOurs(err) {
		return nil, err
	}
	// A damaged archive mostly fails to unpack as well; the sum is the better reason.
	if _, readErr := io.Copy(io.Discard, raw); readErr != nil {
		return nil, readErr
	}
	if sumErr := compareSum("archive", sum, upload); sumErr != nil {
		return nil, sumErr
	}
	return m, err
}

func (c *Catalog) extract(ctx context.Context, raw io.Reader, tree string, u unpacking) (*manifest.Manifest, error) {
	if err := c.memory.Acquire(ctx, imageMemory); err != nil {
		return nil, err
	}
	defer c.memory.Release(imageMemory)
	tarred, err := archive.OpenWithin(raw, imageMemory)
	if err != nil {
		return nil, err
	}
	defer tarred.Close()
	return archive.Extract(ctx, taking{tarred, u.room}, tree, u.bounds)
}

// counted tells every eighth megabyte how far an archive has been read.
type counted struct {
	r           io.Reader
	done, total int64
	tell        func(api.Publishing)
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	before := c.done >> 23
	c.done += int64(n)
	if c.done>>23 != before || c.done == c.total && n > 0 {
		c.tell(api.Publishing{Step: "unpack", Done: c.done, Total: c.total})
	}
	return n, err
}

// verify compares the archive's manifest with the published one and proves
// every entry of the unpacked tree. The content of files was hashed as it was
// written; reading it back would be from the page cache.
func (c *Catalog) verify(ctx context.Context, want, got *manifest.Manifest, tree string, tell func(api.Publishing)) error {
	if err := differ("the archive does not hold what the manifest says", manifest.Diff(want, got)); err != nil {
		return err
	}
	var shown int64
	diffs, err := fstree.Verify(ctx, want, tree, fstree.Options{Workers: 2, Extras: true, Unread: true, Progress: func(done, total int64) {
		if done>>25 != shown || done == total {
			shown = done >> 25
			tell(api.Publishing{Step: "verify", Done: done, Total: total})
		}
	}})
	if err != nil {
		return err
	}
	return differ("the unpacked tree is not what the manifest says", diffs)
}

func differ(what string, diffs []manifest.Difference) error {
	if len(diffs) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s", what, manifest.Summary(diffs))
}

// reveal makes the image visible. Everything is on the disk before the first
// rename, and the manifest, which completes the image, comes last.
func (c *Catalog) reveal(ref wire.ImageRef, m *manifest.Manifest, stage string) error {
	text := filepath.Join(stage, "manifest")
	if err := writeManifest(text, m); err != nil {
		return err
	}
	if err := c.syncFileSystem(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.install(ref.Version), 0o755); err != nil {
		return err
	}
	if err := os.Rename(c.partFile(ref, api.PartArchive), c.install(ref.Archive())); err != nil {
		return err
	}
	// A tree without manifest may be in the way.
	if err := os.Rename(c.install(ref.Tree()), filepath.Join(stage, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(filepath.Join(stage, "tree"), c.install(ref.Tree())); err != nil {
		return err
	}
	if err := os.Rename(text, c.install(ref.Manifest())); err != nil {
		return err
	}
	c.remember(c.install(ref.Manifest()), manifest.Total{Entries: len(m.Entries), Bytes: m.TotalBytes()})
	return errors.Join(c.dropUploads(ref), c.syncFileSystem())
}

func (c *Catalog) syncFileSystem() error {
	f, err := os.Open(c.top)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", c.top, err)
	}
	return nil
}
