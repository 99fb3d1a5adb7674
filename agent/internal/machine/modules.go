package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// extraModules lists the modules that no device asks for, one a line; the
// initrd brings it.
const extraModules = "/etc/modules"

// maxModuleRounds bounds how often new drivers may show new devices: PCI,
// controller, bus behind it, device.
const maxModuleRounds = 8

// drivers loads modules by the aliases that devices announce.
type drivers struct {
	log    *slog.Logger
	none   bool            // this kernel has everything built in
	asked  map[string]bool // aliases that modprobe has seen
	wanted []string        // aliases that it has not
}

func newDrivers(log *slog.Logger) (*drivers, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("read kernel release: %w", err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	_, err := os.Stat(filepath.Join("/lib/modules", release, "modules.alias.bin"))
	if err != nil {
		log.Debug("kernel without modules", "release", release)
	}
	return &drivers{log: log, none: err != nil, asked: map[string]bool{}}, nil
}

func (d *drivers) want(aliases ...string) {
	for _, alias := range aliases {
		if alias != "" && !d.none && !d.asked[alias] {
			d.asked[alias] = true
			d.wanted = append(d.wanted, alias)
		}
	}
}

// loadAll loads the listed modules and those of all devices that are there,
// and of the devices that turn up by that.
func (d *drivers) loadAll(ctx context.Context) error {
	if d.none {
		return nil
	}
	listed, err := os.ReadFile(extraModules)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read list of modules: %w", err)
	}
	d.want(moduleNames(string(listed))...)
	for range maxModuleRounds {
		aliases, err := deviceAliases(os.DirFS("/sys"))
		if err != nil {
			return err
		}
		d.want(aliases...)
		if len(d.wanted) == 0 {
			return nil
		}
		d.load(ctx)
	}
	return nil
}

// load gives the wanted aliases to one modprobe. Many aliases have no module
// in the initrd and some drivers refuse: both are logged and not fatal. It
// answers whether there were any.
func (d *drivers) load(ctx context.Context) bool {
	if len(d.wanted) == 0 {
		return false
	}
	slices.Sort(d.wanted)
	args := append([]string{"--all", "--use-blacklist", "--quiet", "--"}, d.wanted...)
	d.wanted = nil
	out, err := exec.CommandContext(ctx, "modprobe", args...).CombinedOutput()
	if said := strings.TrimSpace(string(out)); said != "" {
		d.log.Warn("modprobe", "says", said)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		d.log.Warn("drivers are not loaded", "error", err)
	}
	return true
}

// moduleNames reads a modules(5) file: one name a line, # begins a comment.
func moduleNames(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if name := strings.TrimSpace(line); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// deviceAliases are the module aliases of all devices in sysfs.
func deviceAliases(sys fs.FS) ([]string, error) {
	var aliases []string
	err := fs.WalkDir(sys, "devices", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a device that just went away
			}
			return err
		}
		if entry.Name() != "modalias" || entry.IsDir() {
			return nil
		}
		if text, err := fs.ReadFile(sys, path); err == nil {
			aliases = append(aliases, strings.TrimSpace(string(text)))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list devices in sysfs: %w", err)
	}
	return aliases, nil
}
