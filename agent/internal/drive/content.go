package drive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/detect"
	"edeploy/server/wire"
)

// Content is what blkid(8) finds on a disk or on one of its partitions.
type Content struct {
	Name      string // "sda", "sda1"
	Table     string // of a disk: "gpt", "dos"
	TableID   string
	Type      string // "ext4", "LVM2_member", "linux_raid_member"
	UUID      string
	Label     string
	PartUUID  string // of a partition, in the table
	PartLabel string
	Group     string // the volume group that a physical volume belongs to
	Err       error  // it cannot be read
}

// blank says that nothing is known to be there.
func (c Content) blank() bool { return c.Table == "" && c.Type == "" && c.Err == nil }

func (c Content) String() string {
	if c.Err != nil {
		return c.Name + " cannot be read: " + c.Err.Error()
	}
	text := c.Name + " " + cmp.Or(c.Type, c.Table)
	if name := cmp.Or(c.Label, c.Group); name != "" {
		text += fmt.Sprintf(" %q", name)
	}
	return text
}

// Describe says in a few words what is on the disk.
func (d Drive) Describe() string {
	var words []string
	for _, c := range d.Contents {
		if !c.blank() {
			words = append(words, c.String())
		}
	}
	if len(words) == 0 {
		return "empty"
	}
	return strings.Join(words, ", ")
}

// Blank says that nothing is known to be on the disk.
func (d Drive) Blank() bool {
	return !slices.ContainsFunc(d.Contents, func(c Content) bool { return !c.blank() })
}

// ID tells the disk from others by what is written on it: the identifier of its
// partition table, else of the file system or volume on the whole disk; "" is
// not known.
func (d Drive) ID() wire.DiskID {
	if len(d.Contents) == 0 {
		return ""
	}
	return wire.DiskID(cmp.Or(d.Contents[0].TableID, d.Contents[0].UUID))
}

// contents reads a disk and its partitions.
func (m *Machine) contents(ctx context.Context, name string) []Content {
	if err := m.answers(ctx, "/dev/"+name); err != nil {
		return []Content{{Name: name, Err: err}}
	}
	found := []Content{m.probe(ctx, name)}
	files, _ := fs.Glob(m.Sys, "block/"+name+"/*/partition")
	slices.SortFunc(files, detect.Natural)
	for _, file := range files {
		found = append(found, m.probe(ctx, path.Base(path.Dir(file))))
	}
	return found
}

func (m *Machine) patience() time.Duration { return cmp.Or(m.Patience, 20*time.Second) }

// answers reads the beginning of a disk. Nobody can end a program that waits
// for a dead disk, so blkid only comes to those that are alive.
func (m *Machine) answers(ctx context.Context, device string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, m.patience(), errSilent)
	defer cancel()
	read := make(chan error, 1)
	go func() { read <- m.Head(device) }()
	select {
	case err := <-read:
		var detail *fs.PathError
		if errors.As(err, &detail) {
			return detail.Err
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// probe asks blkid. Exit status 2: nothing known; 8: several things at once.
func (m *Machine) probe(ctx context.Context, name string) Content {
	ctx, cancel := context.WithTimeoutCause(ctx, m.patience(), errSilent)
	defer cancel()
	c := Content{Name: name}
	out, err := m.Run(ctx, command.Command{Argv: []string{"blkid", "-p", "-o", "export", "/dev/" + name}})
	switch command.ExitCode(err) {
	case 2:
		return c
	case 8:
		c.Type = "several things at once"
		return c
	}
	if err != nil {
		c.Err = err
		return c
	}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if field := c.field(key); field != nil {
			*field = value
		}
	}
	return c
}

func (c *Content) field(key string) *string {
	switch key {
	case "PTTYPE":
		return &c.Table
	case "PTUUID":
		return &c.TableID
	case "TYPE":
		return &c.Type
	case "UUID":
		return &c.UUID
	case "LABEL":
		return &c.Label
	case "PART_ENTRY_UUID":
		return &c.PartUUID
	case "PART_ENTRY_NAME":
		return &c.PartLabel
	}
	return nil
}

// volumeGroups notes which volume group physical volumes belong to.
func (m *Machine) volumeGroups(ctx context.Context, drives []Drive) error {
	isVolume := func(c Content) bool { return c.Type == "LVM2_member" }
	if !slices.ContainsFunc(drives, func(d Drive) bool { return slices.ContainsFunc(d.Contents, isVolume) }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.patience())
	defer cancel()
	out, err := m.Run(ctx, command.Command{Argv: []string{"pvs", "--noheadings", "--readonly", "-o", "pv_name,vg_name"}})
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		for i := range drives {
			for k := range drives[i].Contents {
				if c := &drives[i].Contents[k]; len(words) == 2 && words[0] == "/dev/"+c.Name {
					c.Group = words[1]
				}
			}
		}
	}
	return err
}
