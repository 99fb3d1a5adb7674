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
	"edeploy/agent/internal/source"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"
)

// source is where trees come from: HSERV if there is one (reference section
// 2.5), else the rsync server.
func (in *installation) source(args wire.BootArgs, mounts []disk.Mount, log *slog.Logger) source.Source {
	how := source.Transfer{
		// What rsync says is in the sentences about its end.
		Run: in.env.Run(nil), Rsync: in.env.Rsync, Log: log,
		FirstPause: in.env.FirstPause, LongestPause: in.env.LongestPause, Patience: in.env.Patience,
		OnDisk: func() int64 { return disk.Used(mounts) },
	}
	if args.HServ != "" {
		return source.Archives{Transfer: how, Args: args}
	}
	return source.Rsync{Transfer: how, Args: args}
}

// tree is a role tree on this machine's disks, and what it should be.
type tree struct {
	layout
	source.Received
}

// transfer brings the role's tree, when it fits on the disk and under the files
// of the script.
func (in *installation) transfer(ctx context.Context, l layout, log *slog.Logger) (tree, error) {
	received, err := in.source(in.args, l.mounts, log).Copy(ctx, l.Image, source.Target{
		Dir: in.chroot(), SplitLinks: l.splitLinks(),
		Accept: func(m *manifest.Manifest, url string) error {
			if err := overlay.Check(in.path(configure.OverlayDir), m); err != nil {
				return err
			}
			if err := disk.CheckSpace("role "+l.Image.String(), m, l.mounts, in.chroot(), disk.Statfs); err != nil {
				return err
			}
			log.Info(fmt.Sprintf("role %s: %d entries, %d MB, from %s", l.Image, len(m.Entries), m.TotalBytes()/1e6, url))
			return nil
		},
		Progress: in.progress,
	})
	return tree{l, received}, err
}

// verify makes the tree equal to its manifest and proves it. What differs in
// content is transferred once more before it is a failure.
func (in *installation) verify(ctx context.Context, t tree, log *slog.Logger) (tree, error) {
	wrong, err := in.compare(ctx, t)
	if err == nil && len(wrong) == 0 {
		return t, nil
	}
	if t.Compared {
		return t, errors.Join(differs(t, wrong), err)
	}
	if err != nil {
		log.Warn(err.Error())
	}
	log.Warn(fmt.Sprintf("%d differences after the transfer, transferring those files again: %s", len(wrong), manifest.Summary(wrong)))
	if err := in.discard(wrong); err != nil {
		return t, err
	}
	if t, err = in.transfer(ctx, t.layout, log); err != nil {
		return t, err
	}
	if wrong, err = in.compare(ctx, t); err != nil {
		return t, err
	}
	return t, differs(t, wrong)
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
	tell := in.progress(t.Manifest.TotalBytes())
	o := fstree.Options{SplitLinks: t.splitLinks(), Unread: t.Compared, Progress: func(done, _ int64) { tell(done) }}
	if t.Compared {
		// Extract has set the attributes, in all likelihood those of the manifest.
		if wrong, err := fstree.Verify(ctx, t.Manifest, in.chroot(), o); err == nil && len(wrong) == 0 {
			return nil, nil
		}
	}
	applied := fstree.Apply(ctx, t.Manifest, in.chroot(), fstree.Options{SplitLinks: o.SplitLinks})
	wrong, err := fstree.Verify(ctx, t.Manifest, in.chroot(), o)
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
