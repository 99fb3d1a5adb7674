package machine

import (
	"context"
	"io/fs"
	"time"
)

// Unexported decisions for the external tests.
var (
	EventAlias    = eventAlias
	ModuleNames   = moduleNames
	DeviceAliases = deviceAliases
	ContentLinks  = contentLinks
	Properties    = properties
	LinkName      = linkName
	Terminals     = terminals
	OnDisk        = onDisk
	IsDisk        = isDisk
	DiskComing    = diskComing
	IsMountPoint  = isMountPoint
)

// Settle is the wait for devices; times are since its start.
func Settle(at, lastEvent time.Duration, disks int, coming bool) time.Duration {
	start := time.Unix(1000, 0)
	return deviceWait{start: start, lastEvent: start.Add(lastEvent), disks: disks, coming: coming}.wait(start.Add(at))
}

// AllDiskIDs are the links of all block devices of a sysfs.
func AllDiskIDs(sys fs.FS) (map[string][]string, error) {
	devices, err := blockDevices(sys)
	ids := map[string][]string{}
	for _, device := range devices {
		ids[device.name] = device.ids
	}
	return ids, err
}

// WriteLinks writes links in a directory; it answers those that were refused.
func WriteLinks(dir string, pairs ...[2]string) (refused []string, err error) {
	links := diskLinks{}
	for _, pair := range pairs {
		if !links.add(pair[0], pair[1]) {
			refused = append(refused, pair[0])
		}
	}
	return refused, links.write(dir)
}

// Designators are the kinds in a page 0x83.
func Designators(page []byte) int { return len(designators(page)) }

// RunShell runs a shell on a terminal.
func RunShell(ctx context.Context, shell, tty string) error { return runShell(ctx, shell, nil, tty) }

// LinksDown takes all network cards down.
func LinksDown() { linksDown() }
