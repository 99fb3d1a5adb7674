package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/transaction"
	"edeploy/server/wire"

	"golang.org/x/sys/unix"
)

type scripts struct {
	root string
	from wire.ImageRef
	to   string
	dir  string // of the metadata, in the installed system
	out  io.Writer
}

// find answers nil when there is no such executable.
func (s scripts) find(name string) func(context.Context) error {
	info, err := os.Lstat(filepath.Join(s.root, s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
		fmt.Fprintf(s.out, "%s is not executable and is not run\n", path.Join(s.dir, name))
		return nil
	}
	return func(ctx context.Context) error {
		fmt.Fprintf(s.out, "run %s\n", path.Join(s.dir, name))
		return s.run(ctx, name)
	}
}

func (s scripts) run(ctx context.Context, name string) error {
	c := command.Command{
		Argv:  []string{"/bin/sh", "-c", `cd "$1" && exec "./$2"`, "sh", s.dir, name},
		Shown: path.Join(s.dir, name),
		Env:   []string{"ROLE=" + s.from.Role, "FROM=" + s.from.Version, "TO=" + s.to},
	}
	if s.root != "/" {
		c.Chroot = s.root
	}
	_, err := command.On(s.out)(ctx, c)
	return err
}

func (s scripts) pre() func(context.Context) error { return s.find("pre") }

// post runs the script and then sets SELinux labels, which the tree does not
// have. 100 asks for a reboot (reference section 10.3 steps 7, 8 and 10).
func (s scripts) post() func(context.Context) error {
	script := s.find("post")
	labels := s.relabel()
	if script == nil && labels == nil {
		return nil
	}
	return func(ctx context.Context) error {
		var asked error
		if script != nil {
			err := script(ctx)
			switch {
			case command.ExitCode(err) == wire.RebootExitCode:
				asked = transaction.ErrReboot
			case err != nil:
				return err
			}
		}
		if labels != nil {
			if err := labels(ctx); err != nil {
				return err
			}
		}
		return asked
	}
}

const selinuxConfig = "/etc/selinux/config"

// relabel is nil where SELinux is off.
func (s scripts) relabel() func(context.Context) error {
	var at unix.Statfs_t
	if s.root != "/" || unix.Statfs("/sys/fs/selinux", &at) != nil || at.Type != unix.SELINUX_MAGIC {
		return nil
	}
	setfiles, err := exec.LookPath("setfiles")
	if err != nil {
		return nil
	}
	return func(ctx context.Context) error {
		text, err := os.ReadFile(selinuxConfig)
		if err != nil {
			return err
		}
		contexts := filepath.Join("/etc/selinux", selinuxType(string(text)), "contexts/files/file_contexts")
		_, err = command.On(s.out)(ctx, command.Command{Argv: []string{setfiles, contexts, "/"}})
		return err
	}
}

// selinuxType is the policy that a configuration chooses (selinux_config(5)).
func selinuxType(config string) string {
	for line := range strings.Lines(config) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "SELINUXTYPE="); ok {
			return value
		}
	}
	return "targeted"
}
