package wipe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"edeploy/agent/internal/command"
	"edeploy/agent/internal/drive"
	"edeploy/server/wire"
)

// erasing is one disk that is being erased.
type erasing struct {
	host       Host
	drive      drive.Drive
	controller *sync.Mutex  // held by the one of its disks that is being erased
	done       atomic.Int64 // bytes
	before     []block
	result     wire.WipedDisk
}

// maxText bounds what a report says of one disk, see wire.CheckWiped.
const maxText = 40

// clip is one line, without what could not be shown.
func clip(text string, most int) string {
	text = strings.Join(strings.FieldsFunc(text, unicode.IsControl), " ")
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// look reads samples of what is on the disk. One that cannot be opened fails here.
func (e *erasing) look(ctx context.Context) {
	d := e.drive
	e.result = wire.WipedDisk{Name: d.Name, Model: clip(d.Model, maxText), Serial: clip(d.Serial, maxText), Bytes: d.SizeBytes}
	switch {
	case d.WriteProtected:
		e.fail(errors.New("it, or its controller, is write-protected"))
		return
	case d.SizeBytes == 0:
		e.fail(errors.New("it says that its size is 0: it is broken"))
		return
	}
	e.host.Note(fmt.Sprintf("disk %s: is erased now", d))
	places := places(d.SizeBytes, rand.Int64N)
	var err error
	if e.before, err = e.sample(ctx, places); err != nil {
		e.fail(err)
	}
}

func (e *erasing) fail(err error) { e.result.Error = clip(err.Error(), 400) }

// sampleTime is how long the reading of samples may take.
const sampleTime = 15 * time.Minute

func (e *erasing) sample(ctx context.Context, places []int64) ([]block, error) {
	var blocks []block
	err := bounded(ctx, sampleTime, func(ctx context.Context) error {
		disk, err := e.host.open(e.drive.Device())
		if err != nil {
			return err
		}
		defer disk.Close()
		blocks, err = read(ctx, disk, places)
		return err
	})
	if err != nil {
		return nil, err // whoever hangs may still write to blocks
	}
	return blocks, nil
}

// run erases the disk, and proves it.
func (e *erasing) run(ctx context.Context) {
	if e.result.Error == "" {
		e.controller.Lock()
		start := time.Now()
		err := e.erase(ctx)
		e.result.Seconds = time.Since(start).Seconds()
		e.controller.Unlock()
		if err != nil {
			e.fail(err)
		}
	}
	e.done.Store(e.drive.SizeBytes)
	e.host.Note("disk " + e.result.String())
}

// erase tries one method after the other.
func (e *erasing) erase(ctx context.Context) error {
	var errs []error
	for _, m := range e.methods(ctx) {
		e.done.Store(0)
		e.result.Method = m.name
		err := bounded(ctx, limit(e.drive.SizeBytes), m.erase)
		if err == nil {
			err = e.prove(ctx)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		err = fmt.Errorf("%s: %w", m.name, err)
		e.host.Note(fmt.Sprintf("disk %s: %v", e.drive.Name, err))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// prove reads the samples again.
func (e *erasing) prove(ctx context.Context) error {
	after, err := e.sample(ctx, placesOf(e.before))
	if err != nil {
		return err
	}
	e.result.Samples = len(after)
	e.result.Held, err = compare(e.before, after)
	return err
}

// zeros writes zeros to all of the disk.
func (e *erasing) zeros(ctx context.Context) error {
	disk, err := e.host.open(e.drive.Device())
	if err != nil {
		return err
	}
	defer disk.Close()
	for at := int64(0); at < e.drive.SizeBytes; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(int64(len(nothing)), e.drive.SizeBytes-at)
		if _, err := disk.WriteAt(nothing[:n], at); err != nil {
			return fmt.Errorf("at byte %d: %w", at, err)
		}
		at += n
		e.done.Store(at)
	}
	return disk.Sync()
}

// program runs a program of the initrd; an error has its last words.
func (e *erasing) program(ctx context.Context, argv ...string) ([]byte, error) {
	return e.host.Run(ctx, command.Command{Argv: argv})
}
