package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"edeploy/agent/internal/transfer"
	"edeploy/images/manifest"
	"edeploy/images/manifest/archive"
	"edeploy/server/wire"
)

// errOther says that an archive is not that of its manifest: one of the two was
// replaced between the two requests, or they never belonged together.
var errOther = errors.New("holds another tree than its manifest describes")

// unpack streams the role's archive from HSERV to the disk. The content is
// hashed as it is written and compared with the manifest published beside the
// archive; where there is none, the archive's own checksums must do.
//
// When the archive is replaced on the server meanwhile it begins anew.
func (in *installation) unpack(ctx context.Context, t tree, log *slog.Logger) (tree, error) {
	const tries = 3
	stale := map[string]bool{} // left by unfinished tries
	var published []byte
	for try := 1; ; try++ {
		got, err := in.unpackOnce(ctx, t, log)
		again := errors.Is(err, transfer.ErrChanged) || errors.Is(err, errOther) && !bytes.Equal(published, got.text)
		if !again || try == tries {
			if err == nil {
				err = in.sweep(stale, got.manifest)
			}
			return got.tree, err
		}
		published = got.text
		if got.manifest != nil {
			for i := range got.manifest.Entries {
				stale[got.manifest.Entries[i].Path] = true
			}
		}
		log.Warn(err.Error() + ", starting again")
	}
}

// unpacked is a tree that came from an archive.
type unpacked struct {
	tree
	text []byte // the manifest that was published with it, if any
}

// unpackOnce unpacks the archive. After an error the manifest answered is what
// was begun.
func (in *installation) unpackOnce(ctx context.Context, t tree, log *slog.Logger) (unpacked, error) {
	got := unpacked{tree: t}
	mover := in.mover(t.layout, log)
	stream, err := openArchive(ctx, mover, in.args, t.Image)
	if err != nil {
		return got, err
	}
	defer stream.Close()
	o := archive.Options{SplitLinks: len(t.mounts) > 1}
	want, err := in.published(ctx, mover, stream.URL(), t)
	if err != nil {
		return got, err
	}
	if want != nil {
		got.manifest = want
		if got.text, err = os.ReadFile(t.file); err != nil {
			return got, err
		}
		if err := in.accept(got.tree, stream.URL(), log); err != nil {
			return got, err
		}
		o.MaxBytes = max(want.TotalBytes(), 1)
	} else {
		log.Warn(fmt.Sprintf("there is no manifest beside %s: nothing proves that the archive is what was published", stream.URL()))
	}
	if size := stream.Size(); size > 0 {
		stream.Watch(in.progress(wire.StepTransfer, size))
	}
	got.manifest, err = extract(ctx, stream, in.chroot(), o)
	if err != nil {
		return got, err
	}
	if want == nil {
		got.written = true
		return got, writeManifest(t.file, got.manifest)
	}
	if wrong := otherContent(want, got.manifest); len(wrong) > 0 {
		return got, fmt.Errorf("%s %w, in %d places: %s", stream.URL(), errOther, len(wrong), manifest.Summary(wrong))
	}
	got.manifest, got.written = want, true
	return got, nil
}

// openArchive finds the archive beside its version's other roles, or directly
// in HPATH.
func openArchive(ctx context.Context, mover transfer.Transfer, args wire.BootArgs, image wire.ImageRef) (*transfer.Stream, error) {
	s, err := mover.Open(ctx, archiveURLs(args, image)...)
	return s, unknown(ctx, args, image, err)
}

func archiveURLs(args wire.BootArgs, image wire.ImageRef) []string {
	archive := image.Archive()
	return []string{args.ArchiveURL(archive), args.ArchiveURL(path.Base(archive))}
}

// published brings the manifest beside the archive; nil when there is none.
func (in *installation) published(ctx context.Context, mover transfer.Transfer, archive string, t tree) (*manifest.Manifest, error) {
	url := strings.TrimSuffix(archive, path.Ext(archive)) + path.Ext(t.Image.Manifest())
	err := mover.Fetch(ctx, url, t.file, manifest.MaxTextBytes)
	if errors.Is(err, transfer.ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return readManifest(t.file)
}

// extract unpacks a stream to its end, behind which nothing but padding may be.
func extract(ctx context.Context, stream *transfer.Stream, root string, o archive.Options) (m *manifest.Manifest, err error) {
	defer func() {
		// The stream knows better than the unpackers why it ended.
		if stream.Err() != nil {
			err = stream.Err()
		} else if err != nil {
			err = fmt.Errorf("%s: %w", stream.URL(), err)
		}
	}()
	tarred, err := archive.Open(stream)
	if err != nil {
		return nil, err
	}
	defer tarred.Close()
	if m, err = archive.Extract(ctx, tarred, root, o); err != nil {
		return m, err
	}
	const padding = 1 << 20
	n, err := io.Copy(io.Discard, io.LimitReader(tarred, padding))
	if err == nil && n == padding {
		err = errors.New("there is more behind the end of the archive")
	}
	return m, err
}

// otherContent lists where two trees differ in more than attributes, which
// Apply can set.
func otherContent(want, got *manifest.Manifest) []manifest.Difference {
	return slices.DeleteFunc(manifest.Diff(want, got), func(d manifest.Difference) bool {
		switch d.Attribute {
		case manifest.AttrMissing, manifest.AttrExtra, manifest.AttrType, manifest.AttrSize, manifest.AttrContent, manifest.AttrLink, manifest.AttrLinks:
			return false
		}
		return true
	})
}

// sweep removes what unfinished tries left and the tree does not have.
func (in *installation) sweep(stale map[string]bool, m *manifest.Manifest) error {
	var gone []string
	for p := range stale {
		if _, ok := m.Lookup(p); !ok {
			gone = append(gone, p)
		}
	}
	root, err := os.OpenRoot(in.chroot())
	if err != nil {
		return err
	}
	defer root.Close()
	slices.Sort(gone)
	for _, p := range slices.Backward(gone) { // what is in a directory before it
		err := root.Remove(p)
		if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EBUSY) {
			continue // a directory that the script made or mounted
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove %s, which a replaced archive held: %w", filepath.Join(in.chroot(), p), err)
		}
	}
	return nil
}

func writeManifest(file string, m *manifest.Manifest) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = m.WriteTo(f)
	return errors.Join(err, f.Close())
}
