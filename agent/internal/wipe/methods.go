package wipe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// method is a way to erase a disk.
type method struct {
	name  string
	erase func(context.Context) error
}

// methods are the ways to erase this disk, the most thorough one first: the
// drive's own reach what the drive has set aside, too. Those that only throw a
// key away are not used: what is read then looks like data.
func (e *erasing) methods(ctx context.Context) []method {
	var all []method
	switch e.drive.Transport {
	case "nvme":
		all = e.nvme(ctx)
	case "sata", "sas":
		all = e.ata(ctx)
	}
	if e.drive.Discards && e.drive.Transport == "mmc" {
		all = append(all, e.by("secure discard", "blkdiscard", "--force", "--secure", e.drive.Device()))
	}
	if e.drive.Discards {
		all = append(all, e.by("discard", "blkdiscard", "--force", e.drive.Device()))
	}
	return append(all, method{"zeros", e.zeros})
}

// by is a method that is one program.
func (e *erasing) by(name string, argv ...string) method {
	return method{name, func(ctx context.Context) error {
		_, err := e.program(ctx, argv...)
		return err
	}}
}

// askTime is how long a drive may take to say what it can.
const askTime = time.Minute

func (e *erasing) ask(ctx context.Context, argv ...string) (answer []byte, err error) {
	var said []byte
	err = bounded(ctx, askTime, func(ctx context.Context) (err error) {
		said, err = e.program(ctx, argv...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return said, nil
}

// nvme are the methods of an NVMe controller.
func (e *erasing) nvme(ctx context.Context) []method {
	answer, err := e.ask(ctx, "nvme", "id-ctrl", "--raw-binary", e.drive.Device())
	if err != nil {
		e.host.Note(fmt.Sprintf("disk %s: the controller does not say what it can: %v", e.drive.Name, err))
		return nil
	}
	can := nvmeAbilities(answer)
	var all []method
	if can.blockErase {
		all = append(all, e.sanitize("NVMe sanitize", nvmeStatus, []string{"nvme", "sanitize", "--sanact=2", e.drive.Device()},
			[]string{"nvme", "sanitize-log", "--raw-binary", e.drive.Device()}))
	}
	if can.format {
		all = append(all, e.by("NVMe format", "nvme", "format", "--ses=1", "--force",
			fmt.Sprintf("--timeout=%d", min(limit(e.drive.SizeBytes).Milliseconds(), 1<<31-1)), e.drive.Device()))
	}
	return all
}

// abilities are what a drive can do to erase itself.
type abilities struct {
	blockErase, overwrite bool // by sanitize
	format                bool // of NVMe
	erase                 bool // of the ATA security feature set
	locked                bool // by it, with a password
}

// nvmeAbilities reads an answer to Identify with CNS 01h (NVM Express Base
// Specification 2.0, figure 275): OACS at byte 256, SANICAP at byte 328.
func nvmeAbilities(answer []byte) abilities {
	if len(answer) != 4096 {
		return abilities{}
	}
	return abilities{format: answer[256]&0x02 != 0, blockErase: answer[328]&0x02 != 0}
}

// status is how a drive is doing that sanitizes itself. A power cut does not end
// that.
type status struct {
	running, failed bool
	part            float64 // 0 to 1
}

// nvmeStatus reads the log page 81h (figure 296): SPROG at byte 0, SSTAT at byte
// 2, of which the lower three bits are 2 while it runs, and 3 when it has failed.
func nvmeStatus(answer []byte) (status, error) {
	if len(answer) < 4 {
		return status{}, fmt.Errorf("%d bytes are no sanitize log", len(answer))
	}
	is := answer[2] & 0x07
	return status{is == 2, is == 3, float64(binary.LittleEndian.Uint16(answer)) / (1 << 16)}, nil
}

// ata are the methods of a disk that understands ATA.
func (e *erasing) ata(ctx context.Context) []method {
	answer, err := e.ask(ctx, "hdparm", "-I", e.drive.Device())
	if err != nil { // a SAS disk has nothing to say to that
		return nil
	}
	can := ataAbilities(string(answer))
	var all []method
	var how []string
	switch {
	case !e.drive.Rotational && can.blockErase:
		how = []string{"--sanitize-block-erase"}
	case e.drive.Rotational && can.overwrite:
		how = []string{"--sanitize-overwrite-passes", "1", "--sanitize-overwrite", "hex:00000000"}
	}
	if how != nil {
		start := slices.Concat([]string{"hdparm", "--yes-i-know-what-i-am-doing"}, how, []string{e.drive.Device()})
		all = append(all, e.sanitize("ATA sanitize", ataStatus, start, []string{"hdparm", "--sanitize-status", e.drive.Device()}))
	}
	if can.erase {
		all = append(all, method{"ATA secure erase", func(ctx context.Context) error { return e.secureErase(ctx, can.locked) }})
	}
	return all
}

var security = regexp.MustCompile(`(?m)^\s*(not\s+)?(supported|enabled|frozen)\s*$`)

// ataAbilities reads what hdparm -I says.
func ataAbilities(said string) abilities {
	features, rest, _ := strings.Cut(said, "\nSecurity:")
	can := func(name string) bool { return regexp.MustCompile(`(?m)^\s*\*\s+` + name).MatchString(features) }
	is := map[string]bool{}
	for _, line := range security.FindAllStringSubmatch(rest, -1) {
		is[line[2]] = line[1] == ""
	}
	sanitizes := can("SANITIZE feature set")
	return abilities{blockErase: sanitizes && can("BLOCK_ERASE_EXT"), overwrite: sanitizes && can("OVERWRITE_EXT"),
		erase: is["supported"] && !is["frozen"], locked: is["enabled"]}
}

var percent = regexp.MustCompile(`Progress:.*\(([0-9]+)%\)`)

// ataStatus reads what hdparm --sanitize-status says.
func ataStatus(said []byte) (status, error) {
	text := string(said)
	is := status{running: strings.Contains(text, "SD2 "), failed: strings.Contains(text, "SD3 ") || strings.Contains(text, "completed unsuccessfully")}
	if !is.running && !is.failed && !strings.Contains(text, "SD0 ") {
		return is, fmt.Errorf("no state of sanitizing: %.200q", text)
	}
	if m := percent.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1]) // digits; too many are no progress
		is.part = float64(min(n, 100)) / 100
	}
	return is, nil
}

// sanitize is a method by which a drive erases all that it has ever stored. One
// that is at it already, since before a power cut, is waited for.
func (e *erasing) sanitize(name string, read func([]byte) (status, error), start, ask []string) method {
	state := func(ctx context.Context) (status, error) {
		answer, err := e.ask(ctx, ask...)
		if err != nil {
			return status{}, err
		}
		return read(answer)
	}
	return method{name, func(ctx context.Context) error {
		if is, err := state(ctx); err != nil || !is.running {
			if _, err := e.program(ctx, start...); err != nil {
				return err
			}
		}
		for {
			is, err := state(ctx)
			switch {
			case err != nil:
				return err
			case is.failed:
				return errors.New("the drive says that it has failed")
			case !is.running:
				return nil
			}
			e.done.Store(int64(is.part * float64(e.drive.SizeBytes)))
			if err := pause(ctx, e.host.every()); err != nil {
				return err
			}
		}
	}}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// password is that of disks that are being erased. It is gone when they are; after a
// power cut it lets the next try in.
const password = "edeploy"

// secureErase is the ATA command SECURITY ERASE UNIT, which a drive takes with a
// password only.
func (e *erasing) secureErase(ctx context.Context, locked bool) error {
	hdparm := func(ctx context.Context, what string) error {
		_, err := e.program(ctx, "hdparm", "--user-master", "user", "--security-"+what, password, e.drive.Device())
		return err
	}
	if !locked {
		if err := hdparm(ctx, "set-pass"); err != nil {
			return err
		}
	}
	err := hdparm(ctx, "erase")
	if err != nil && !locked { // it would be closed after the next power cycle
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		err = errors.Join(err, hdparm(ctx, "disable"))
	}
	return err
}
