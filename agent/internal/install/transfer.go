package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"edeploy/agent/internal/configure"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/overlay"
	"edeploy/agent/internal/transfer"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"
)

// transfer brings the role's tree and its manifest, from HSERV if there is one
// (reference section 2.5), else by rsync.
func (in *installation) transfer(ctx context.Context, plan layout, log *slog.Logger) (tree, error) {
	t := tree{layout: plan, file: in.path("/manifest.mtree")}
	if err := os.RemoveAll(t.file); err != nil {
		return t, err
	}
	if in.args.HServ != "" {
		return in.unpack(ctx, t, log)
	}
	return in.copy(ctx, t, log)
}

// copy brings the manifest, checks that the tree fits, and brings the tree.
func (in *installation) copy(ctx context.Context, t tree, log *slog.Logger) (tree, error) {
	mover := in.mover(t.layout, log)
	if err := in.fetchManifest(ctx, mover, in.args, t.Image, t.file); err != nil {
		return t, err
	}
	var err error
	if t.manifest, err = readManifest(t.file); err != nil {
		return t, err
	}
	url := in.args.RsyncURL(t.Image.Tree())
	if err := in.accept(t, url, log); err != nil {
		return t, err
	}
	mover.Progress = in.progress(wire.StepTransfer, t.manifest.TotalBytes())
	return t, mover.Tree(ctx, url, in.chroot())
}

// fetchManifest brings the manifest of a role by rsync.
func (in *installation) fetchManifest(ctx context.Context, mover transfer.Transfer, args wire.BootArgs, image wire.ImageRef, file string) error {
	err := mover.File(ctx, args.RsyncURL(image.Manifest()), file, manifest.MaxTextBytes)
	return unknown(ctx, args, image, err)
}

// accept says what will come, and refuses what does not fit on the disk or
// under the files of the script.
func (in *installation) accept(t tree, url string, log *slog.Logger) error {
	if err := overlay.Check(in.path(configure.OverlayDir), t.manifest); err != nil {
		return err
	}
	if err := disk.CheckSpace("role "+t.Image.String(), t.manifest, t.mounts, in.chroot(), disk.Statfs); err != nil {
		return err
	}
	log.Info(fmt.Sprintf("role %s: %d entries, %d MB, from %s", t.Image, len(t.manifest.Entries), t.manifest.TotalBytes()/1e6, url))
	return nil
}

// mover is how this installation copies.
func (in *installation) mover(plan layout, log *slog.Logger) transfer.Transfer {
	return transfer.Transfer{
		// What rsync says is in the sentences about its end.
		Run: in.env.Run(nil), Rsync: in.env.Rsync, Log: log,
		FirstPause: in.env.FirstPause, LongestPause: in.env.LongestPause, Patience: in.env.Patience,
		Held: func() int64 { return disk.Used(plan.mounts) },
	}
}

func readManifest(file string) (*manifest.Manifest, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := manifest.Read(f)
	if err != nil {
		return nil, fmt.Errorf("manifest of the role: %w", err)
	}
	return m, nil
}

// verify makes the tree equal to its manifest and proves it. What differs in
// content is transferred once more before it is a failure.
func (in *installation) verify(ctx context.Context, t tree, log *slog.Logger) error {
	wrong, err := in.compare(ctx, t)
	if err == nil && len(wrong) == 0 {
		return nil
	}
	if t.written {
		return errors.Join(differs(t, wrong), err)
	}
	if err != nil {
		log.Warn(err.Error())
	}
	log.Warn(fmt.Sprintf("%d differences after the transfer, transferring those files again: %s", len(wrong), manifest.Summary(wrong)))
	if err := in.discard(wrong); err != nil {
		return err
	}
	if err := in.mover(t.layout, log).Tree(ctx, in.args.RsyncURL(t.Image.Tree()), in.chroot()); err != nil {
		return err
	}
	if wrong, err = in.compare(ctx, t); err != nil {
		return err
	}
	return differs(t, wrong)
}

func differs(t tree, wrong []manifest.Difference) error {
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("the tree differs from the manifest of role %s in %d places: %s", t.Image, len(wrong), manifest.Summary(wrong))
}

// compare applies the manifest and lists what still differs. An error of
// Apply alone is not the last word: the list says more.
func (in *installation) compare(ctx context.Context, t tree) ([]manifest.Difference, error) {
	tell := in.progress(wire.StepVerify, t.manifest.TotalBytes())
	o := fstree.Options{
		// A tree on several disks has hard links that cannot be.
		SplitLinks: len(t.mounts) > 1,
		Unread:     t.written,
		Progress:   func(done, _ int64) { tell(done) },
	}
	if t.written {
		// Extract has set the attributes, in all likelihood those of the manifest.
		if wrong, err := fstree.Verify(ctx, t.manifest, in.chroot(), o); err == nil && len(wrong) == 0 {
			return nil, nil
		}
	}
	applied := fstree.Apply(ctx, t.manifest, in.chroot(), fstree.Options{SplitLinks: o.SplitLinks})
	wrong, err := fstree.Verify(ctx, t.manifest, in.chroot(), o)
	if err != nil || len(wrong) == 0 {
		return wrong, errors.Join(applied, err)
	}
	return wrong, nil
}

// discard removes the files whose content is wrong, so that rsync, which
// looks at size and time, brings them again.
func (in *installation) discard(wrong []manifest.Difference) error {
	root, err := os.OpenRoot(in.chroot())
	if err != nil {
		return err
	}
	defer root.Close()
	for _, d := range wrong {
		switch d.Attribute {
		case manifest.AttrContent, manifest.AttrSize, manifest.AttrType, manifest.AttrLink:
			if err := root.RemoveAll(d.Path); err != nil {
				return fmt.Errorf("remove %s, which differs from the manifest: %w", filepath.Join(in.chroot(), d.Path), err)
			}
		}
	}
	return nil
}
