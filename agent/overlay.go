package agent

import (
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

// laid is the tree with this machine's own files.
type laid struct{ *overlay.Tree }

// overlay lays the queued files over the tree and writes what the machine
// knows about itself (reference sections 2.5 and 2.8).
func (j *journey) overlay(ctx context.Context, t tree, log *slog.Logger) (*laid, error) {
	over, err := overlay.Open(j.chroot())
	if err != nil {
		return nil, err
	}
	files := &laid{over}
	for _, write := range []func() error{
		func() error { return files.Lay(j.path(configure.OverlayDir)) },
		func() error { return j.queued(files) },
		func() error { return j.fstab(ctx, t, files, log) },
		func() error { return files.Copy(t.file, wire.ManifestPath, 0o644) },
		func() error { return files.Write(wire.ConfPath, []byte(j.installed().Encode()), 0o644) },
		func() error { return files.Note(ownDirectories(t, j.chroot(), over)...) },
	} {
		if err := write(); err != nil {
			over.Close()
			return nil, err
		}
	}
	return files, nil
}

// installed is what the machine knows about itself from now on.
func (j *journey) installed() wire.Installed {
	return wire.Installed{
		Image: j.image, Profile: j.profile, Serv: j.args.Serv, HTTPPort: j.args.HTTPPort,
		RServ: j.args.RsyncHost(), RServPort: j.args.RServPort, RPath: j.args.RPath,
	}
}

// queued brings the seed's files: a network configuration, kernel modules.
func (j *journey) queued(files *laid) error {
	interfaces, err := j.read("/interfaces")
	if err != nil {
		return err
	}
	modules, err := j.read("/modules")
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

// read reads a file that a script may have left; nil is none.
func (j *journey) read(name string) ([]byte, error) {
	text, err := os.ReadFile(j.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// fstab brings the script's /fstab, or the one that says what is mounted. One
// that the script laid over the tree stays.
func (j *journey) fstab(ctx context.Context, t tree, files *laid, log *slog.Logger) error {
	text, err := j.read("/fstab")
	if err != nil {
		return err
	}
	if text == nil {
		if _, err := os.Lstat(j.path(configure.OverlayDir + "/etc/fstab")); err == nil {
			return nil
		}
		devices, err := disk.Blkid(ctx, j.env.Run(nil))
		if err != nil {
			return err
		}
		made, err := disk.Fstab(t.mounts, devices, j.chroot())
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
		if _, ok := t.manifest.Lookup(strings.TrimPrefix(at, "/")); at != "/" && !ok {
			names = append(names, at+"/")
		}
	}
	return names
}

// leave writes the last files, restores what writing changed beside them (the
// times of directories), and takes the disks off.
func (j *journey) leave(ctx context.Context, t tree, files *laid, log *slog.Logger) error {
	if err := j.keepLogs(files); err != nil {
		return err
	}
	if err := files.Note(wire.LocalPath); err != nil {
		return err
	}
	if err := files.Note(newParents(files.Local(), t.manifest)...); err != nil {
		return err
	}
	local := files.Local()
	if err := files.Write(wire.LocalPath, []byte(strings.Join(local, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	o := fstree.Options{Exclude: matches(local), SplitLinks: len(t.mounts) > 1}
	if err := fstree.Apply(ctx, t.manifest, j.chroot(), o); err != nil {
		return err
	}
	if err := files.Close(); err != nil {
		return err
	}
	return j.env.Unmount(j.env.MountInfo, j.chroot())
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
func (j *journey) keepLogs(files *laid) error {
	dmesg, err := j.env.Dmesg()
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
		err = errors.Join(err, files.Copy(j.path(f.from), wire.LogDir+"/"+f.to, f.mode))
	}
	return err
}
