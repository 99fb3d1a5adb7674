// Package wipe erases the disks of a machine that is taken out of service, and
// proves it: blocks of each disk are read before and after.
//
// A disk is erased by the first method that it knows and whose result stands the
// proof: the drive's own (methods.go says which), else by discarding all of it,
// else by writing zeros.
package wipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/drive"
	"edeploy/server/wire"
)

// Disk is a disk to read and write past all caches. Offsets and lengths are
// multiples of its sectors, buffers begin at a page of memory.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
}

// Open opens a block device that nothing on this machine uses: not one that is
// mounted, or that an array or volume is on.
func Open(device string) (Disk, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%w: a mount, an array or a volume of this machine is on it", err)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Host is the machine.
type Host struct {
	Run      command.Runner                    // of nvme, hdparm and blkdiscard
	Open     func(device string) (Disk, error) // nil: Open
	Note     func(text string)                 // for the console and the history
	Progress func(bytes int64)                 // of all disks together, now and then

	Every time.Duration // between two calls of Progress, and questions how far a drive is; 0 is 5 s
}

// Choose says of each disk of a machine whether it is to be erased. Not what a
// person has plugged in, and not what other machines may use.
func Choose(drives []drive.Drive) (targets []drive.Drive, left []string) {
	for _, d := range drives {
		switch {
		case d.Remote:
			left = append(left, fmt.Sprintf("disk %s: left as it is: it is reached by a network, and other machines may use it", d))
		case d.Removable:
			left = append(left, fmt.Sprintf("disk %s: left as it is: it is removable", d))
		default:
			targets = append(targets, d)
		}
	}
	return targets, left
}

// Erase erases disks, all at the same time, and says what became of each.
func (h Host) Erase(ctx context.Context, drives []drive.Drive) []wire.WipedDisk {
	all := make([]*erasing, len(drives))
	for i, d := range drives {
		all[i] = &erasing{host: h, drive: d, controller: &sync.Mutex{}}
		for _, before := range all[:i] {
			if controller(before.drive.Name) == controller(d.Name) {
				all[i].controller = before.controller
			}
		}
	}
	stop := h.watch(all)
	defer stop()
	// What erases one name space of an NVMe controller may erase the others, so all
	// are looked at before.
	each(all, func(e *erasing) { e.look(ctx) })
	each(all, func(e *erasing) { e.run(ctx) })
	results := make([]wire.WipedDisk, len(all))
	for i, e := range all {
		results[i] = e.result
	}
	return results
}

// controller names what several disks have in common: of nvme0n1 and nvme0n2 it
// is nvme0.
func controller(name string) string {
	if at := strings.LastIndexByte(name, 'n'); at > 0 && strings.HasPrefix(name, "nvme") {
		return name[:at]
	}
	return name
}

func each(all []*erasing, do func(*erasing)) {
	var running sync.WaitGroup
	for _, e := range all {
		running.Go(func() { do(e) })
	}
	running.Wait()
}

// watch tells how far all disks are until it is stopped.
func (h Host) watch(all []*erasing) (stop func()) {
	done := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(h.every())
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.Progress(sum(all))
			case <-done:
				h.Progress(sum(all))
				return
			}
		}
	})
	return func() { close(done); telling.Wait() }
}

// sum is how many bytes of all disks are done.
func sum(all []*erasing) (bytes int64) {
	for _, e := range all {
		bytes += e.done.Load()
	}
	return bytes
}

func (h Host) every() time.Duration {
	if h.Every > 0 {
		return h.Every
	}
	return 5 * time.Second
}

func (h Host) open(device string) (Disk, error) {
	if h.Open != nil {
		return h.Open(device)
	}
	return Open(device)
}

// slowest is the speed below which a disk is given up, in bytes per second. Disks
// that share a controller share its speed.
const slowest = 20e6

// limit is how long a method may take on a disk.
func limit(sizeBytes int64) time.Duration {
	return 10*time.Minute + time.Duration(float64(sizeBytes)/slowest*float64(time.Second))
}

// bounded does something that may hang in the kernel, where nobody can end it:
// after the time it is left alone.
func bounded(ctx context.Context, most time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, fmt.Errorf("not done in %s: the disk hangs, or is too slow", most.Round(time.Second)))
	defer cancel()
	end := make(chan error, 1)
	go func() { end <- do(ctx) }()
	select {
	case err := <-end:
		return err
	case <-ctx.Done():
		select { // it may have ended by that
		case err := <-end:
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(grace):
			return context.Cause(ctx)
		}
	}
}

// grace is how long what was ended may take to end.
const grace = 10 * time.Second

// Failed is an error that names the disks that are not proven to be erased; nil:
// all are.
func Failed(disks []wire.WipedDisk) error {
	var left []string
	for _, d := range disks {
		if d.Error != "" {
			left = append(left, d.Name+": "+d.Error)
		}
	}
	switch {
	case len(disks) == 0:
		return errors.New("there is no disk to erase: look whether the kernel has a driver for the machine's controllers")
	case len(left) > 0:
		return fmt.Errorf("%d of %d disks are not erased: %s", len(left), len(disks), strings.Join(left, "; "))
	}
	return nil
}
