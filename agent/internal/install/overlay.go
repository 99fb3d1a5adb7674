package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strings"

	"edeploy/agent/internal/configure"
	"edeploy/agent/internal/disk"
	"edeploy/agent/internal/overlay"
	"edeploy/images/manifest"
	"edeploy/images/manifest/fstree"
	"edeploy/server/wire"
)

// system is the installed system, which has its own files over the tree's.
type system struct {
	tree
	files *overlay.Tree
}

func (s system) close() {
	if s.files != nil {
		s.files.Close()
	}
}

// overlay writes the queued files over the tree, and what the machine knows about
// itself (reference sections 2.5 and 2.8).
func (in *installation) overlay(ctx context.Context, t tree, log *slog.Logger) (system, error) {
	files, err := overlay.Open(in.chroot())
	if err != nil {
		return system{}, err
	}
	var text bytes.Buffer
	for _, write := range []func() error{
		func() error { return files.CopyAll(in.path(configure.OverlayDir)) },
		func() error { return in.queued(files) },
		func() error { return in.fstab(ctx, t, files, log) },
		func() error { _, err := t.Manifest.WriteTo(&text); return err },
		func() error { return files.Write(wire.ManifestPath, text.Bytes(), 0o644) },
		func() error { return files.Write(wire.ConfPath, []byte(in.installed().Encode()), 0o644) },
		func() error { return files.Add(ownDirectories(t, in.chroot(), files)...) },
	} {
		if err := write(); err != nil {
			files.Close()
			return system{}, err
		}
	}
	return system{t, files}, nil
}

func (in *installation) installed() wire.Installed {
	return wire.Installed{
		Image: in.image, Profile: in.profile, Serv: in.args.Serv, HTTPPort: in.args.HTTPPort,
		RServ: in.args.RsyncHost(), RServPort: in.args.RServPort, RPath: in.args.RPath,
	}
}

// queued brings the seed's files: a network configuration, kernel modules.
func (in *installation) queued(files *overlay.Tree) error {
	interfaces, err := in.read("/interfaces")
	if err != nil {
		return err
	}
	modules, err := in.read("/modules")
	if err != nil {
		return err
	}
	if interfaces != nil {
		err = files.Write("/etc/network/interfaces", interfaces, 0o644)
	}
	if modules != nil {
		err = errors.Join(err, files.Append("/etc/modules", modules, 0o644))
	}
	return err
}

func (in *installation) read(name string) ([]byte, error) {
	text, err := os.ReadFile(in.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// fstab brings the script's /fstab, or the one that says what is mounted. One
// that the script laid over the tree stays.
func (in *installation) fstab(ctx context.Context, t tree, files *overlay.Tree, log *slog.Logger) error {
	text, err := in.read("/fstab")
	if err != nil {
		return err
	}
	if text == nil {
		if _, err := os.Lstat(in.path(configure.OverlayDir + "/etc/fstab")); err == nil {
			return nil
		}
		devices, err := disk.Blkid(ctx, in.env.Run(nil))
		if err != nil {
			return err
		}
		made, err := disk.Fstab(t.mounts, devices, in.chroot(), func(device string) []string { return in.disksOf(device, log) })
		if err != nil {
			return err
		}
		log.Debug("fstab: " + strings.ReplaceAll(strings.TrimSpace(made), "\n", " | "))
		text = []byte(made)
	}
	return files.Write("/etc/fstab", text, 0o644)
}

// ownDirectories are those that the file systems brought: lost+found, and
// mount points that the tree does not have.
func ownDirectories(t tree, chroot string, over *overlay.Tree) []string {
	var names []string
	for _, m := range t.mounts {
		at := m.Relative(chroot)
		if lost := path.Join(at, "lost+found"); over.Exists(lost) {
			names = append(names, lost+"/")
		}
		if _, ok := t.Manifest.Lookup(strings.TrimPrefix(at, "/")); at != "/" && !ok {
			names = append(names, at+"/")
		}
	}
	return names
}

// finalize writes the last files, restores what writing changed beside them (the
// times of directories), and takes the disks off.
func (in *installation) finalize(ctx context.Context, s system, log *slog.Logger) (none, error) {
	if err := in.keepLogs(s.files); err != nil {
		return none{}, err
	}
	if err := s.files.Add(wire.LocalPath); err != nil {
		return none{}, err
	}
	if err := s.files.Add(newParents(s.files.Local(), s.Manifest)...); err != nil {
		return none{}, err
	}
	local := s.files.Local()
	if err := s.files.Write(wire.LocalPath, []byte(strings.Join(local, "\n")+"\n"), 0o644); err != nil {
		return none{}, err
	}
	o := fstree.Options{Exclude: matches(local), SplitLinks: s.splitLinks()}
	if err := fstree.Apply(ctx, s.Manifest, in.chroot(), o); err != nil {
		return none{}, err
	}
	if err := s.files.Close(); err != nil {
		return none{}, err
	}
	return none{}, in.env.Unmount(in.env.MountInfo, in.chroot())
}

// newParents are the directories of local paths that the tree does not have.
func newParents(local []string, m *manifest.Manifest) []string {
	var dirs []string
	for _, name := range local {
		for dir := path.Dir(strings.Trim(name, "/")); dir != "."; dir = path.Dir(dir) {
			if _, ok := m.Lookup(dir); !ok {
				dirs = append(dirs, "/"+dir)
			}
		}
	}
	return dirs
}

// matches says whether a path of the manifest is one that this machine has
// its own of.
func matches(local []string) func(string) bool {
	files := map[string]bool{}
	var below []string
	for _, name := range local {
		files[strings.Trim(name, "/")] = true
		if strings.HasSuffix(name, "/") {
			below = append(below, strings.TrimPrefix(name, "/"))
		}
	}
	return func(p string) bool {
		if files[p] {
			return true
		}
		for _, dir := range below {
			if strings.HasPrefix(p, dir) {
				return true
			}
		}
		return false
	}
}

// keepLogs leaves the story of the installation in the installed system.
func (in *installation) keepLogs(files *overlay.Tree) error {
	dmesg, err := in.env.Dmesg()
	if err != nil {
		dmesg = fmt.Appendf(nil, "%v\n", err)
	}
	err = files.Write(wire.LogDir+"/dmesg", dmesg, 0o640)
	// The answer of the server may hold passwords, and so the log.
	for _, f := range []struct {
		from, to string
		mode     fs.FileMode
	}{
		{logPath, "install.log", 0o600}, {"/vars", "vars", 0o644}, {"/hw.json", "hw.json", 0o644}, {"/configure", "configure", 0o600},
	} {
		err = errors.Join(err, files.Copy(in.path(f.from), wire.LogDir+"/"+f.to, f.mode))
	}
	return err
}
