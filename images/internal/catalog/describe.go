package catalog

import (
	"context"
	"fmt"
	"os"

	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
)

// Describe writes the manifests of trees that have none, such as those brought
// from an original eDeploy. A tree that cannot be described is logged and left.
func (c *Catalog) Describe(ctx context.Context) {
	images, err := c.List()
	if err != nil {
		c.log.Error("describe trees that have no manifest", "err", err)
		return
	}
	for _, image := range images {
		if image.Complete || image.Broken != "" {
			continue
		}
		if info, err := os.Stat(c.install(image.Tree())); err != nil || !info.IsDir() {
			continue
		}
		start := c.now()
		c.log.Info("describe a tree that has no manifest", "image", image.String())
		err := c.describe(ctx, image.ImageRef)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Error("describe a tree that has no manifest", "image", image.String(), "err", err)
			continue
		}
		c.log.Info("image is complete", "image", image.String(), "seconds", c.now().Sub(start).Seconds())
	}
}

func (c *Catalog) describe(ctx context.Context, ref wire.ImageRef) error {
	release, err := c.reserve(ref)
	if err != nil {
		return err
	}
	defer release()
	m, err := fstree.Walk(ctx, c.install(ref.Tree()), fstree.Options{Workers: 1})
	if err != nil {
		return err
	}
	return writeManifest(c.install(ref.Manifest()), m)
}

// writeManifest puts a manifest in its place when it can be read back and says
// the same.
func writeManifest(path string, m *manifest.Manifest) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := m.WriteTo(f); err != nil {
		return err
	}
	back, err := fromFile(f.Name(), manifest.Read)
	if err != nil {
		return fmt.Errorf("read the manifest back: %w", err)
	}
	if err := differ("the manifest says something else when it is read back", manifest.Diff(m, back)); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
