package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const diskDir = "/dev/disk"

// LinkDisks makes /dev/disk/by-{id,uuid,label,partuuid,partlabel} as udev's
// 60-persistent-storage.rules would, and removes links that are no longer
// true. Call it after every change of partitions or file systems: programs such as
// grub-mkconfig find their UUIDs there. Where udev runs, nothing is done.
func LinkDisks(ctx context.Context, log *slog.Logger) error {
	log = orSilent(log)
	if _, err := os.Stat("/run/udev/control"); err == nil {
		return nil
	}
	devices, err := blockDevices(os.DirFS("/sys"))
	if err != nil {
		return err
	}
	want := diskLinks{}
	for _, device := range devices {
		properties, err := probe(ctx, device.name)
		if err != nil {
			return err
		}
		for _, link := range append(device.ids, contentLinks(properties)...) {
			if !want.add(link, device.name) {
				log.Warn("two block devices have the same identity", "link", link, "kept", want[link], "left out", device.name)
			}
		}
	}
	return want.write(diskDir)
}

// probe reads what is on the device: superblocks and its partition entry.
func probe(ctx context.Context, name string) (map[string]string, error) {
	cmd := exec.CommandContext(ctx, "blkid", "-p", "-o", "udev", "/dev/"+name)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return nil, nil // 2: nothing known on it; 8: several things at once
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return properties(string(out)), nil
}

func properties(text string) map[string]string {
	p := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\n"), "="); ok {
			p[name] = value
		}
	}
	return p
}

// contentLinks are the links for what blkid found. The UUID of a RAID member
// or an LVM volume is not that of a file system, so usage decides.
func contentLinks(p map[string]string) []string {
	var links []string
	add := func(dir, value string) {
		if value != "" {
			links = append(links, dir+"/"+value)
		}
	}
	switch p["ID_FS_USAGE"] {
	case "filesystem", "other":
		add("by-uuid", p["ID_FS_UUID_ENC"])
		add("by-label", p["ID_FS_LABEL_ENC"])
	case "crypto":
		add("by-uuid", p["ID_FS_UUID_ENC"])
	}
	add("by-partuuid", p["ID_PART_ENTRY_UUID"])
	add("by-partlabel", p["ID_PART_ENTRY_NAME"])
	return links
}

// diskLinks maps "by-uuid/..." to the name of a block device.
type diskLinks map[string]string

// add refuses a second device for the same link, and a name that would leave
// its directory.
func (l diskLinks) add(link, device string) bool {
	dir, name, _ := strings.Cut(link, "/")
	link = dir + "/" + strings.ReplaceAll(name, "/", `\x2f`)
	if _, taken := l[link]; taken {
		return false
	}
	l[link] = device
	return true
}

// write makes the directories hold exactly these links.
func (l diskLinks) write(dir string) error {
	if err := l.removeOthers(dir); err != nil {
		return err
	}
	for _, link := range slices.Sorted(maps.Keys(l)) {
		path := filepath.Join(dir, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make directory for disk links: %w", err)
		}
		if err := os.Symlink("../../"+l[link], path); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("link disk: %w", err)
		}
	}
	return nil
}

func (l diskLinks) removeOthers(dir string) error {
	old, err := filepath.Glob(filepath.Join(dir, "by-*", "*"))
	if err != nil {
		return err
	}
	for _, path := range old {
		link, _ := filepath.Rel(dir, path)
		if target, _ := os.Readlink(path); target == "../../"+l[link] {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove outdated disk link: %w", err)
		}
	}
	return nil
}
