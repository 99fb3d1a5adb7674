package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/google/renameio/v2"

	"edeploy/agent/internal/detect"
	"edeploy/agent/internal/machine"
	"edeploy/agent/internal/network"
	"edeploy/server/wire"
)

const detectUsage = `Usage: agent detect [-record FILE [-anonymous] [-comment TEXT]] [-play FILE]

Describes the hardware of this machine as it is uploaded to the server: a list
of [category, id, field, value], JSON, one a line. Nothing is changed, and nothing
is sent but announcements to the switches (LLDP). What failed or did not answer in
time is named on the standard error and by facts system/detection/skipped.

A recording is all that the description was made of: files of /sys and /proc and
what smartctl, ethtool, ipmitool, RAID tools and switches said. Send one in when your
machine is described wrongly; copy it off the machine with rsync, for instance.

  agent detect                                 the description
  agent detect -record my.json                 a recording, and how many facts
  agent detect -record my.json -anonymous      the same with other serials and addresses
  agent detect -play my.json                   the description of a recorded machine

`

// detectOptions are the flags of "agent detect".
type detectOptions struct {
	record, play, comment string
	anonymous             bool
}

// runDetect is "agent detect". The error flag.ErrHelp has been answered.
func runDetect(ctx context.Context, args []string, out, messages io.Writer) error {
	var o detectOptions
	flags := flag.NewFlagSet("agent detect", flag.ContinueOnError)
	flags.SetOutput(messages)
	flags.StringVar(&o.record, "record", "", "write a recording to `FILE`; - is the standard output")
	flags.BoolVar(&o.anonymous, "anonymous", false, "replace serial numbers, UUIDs, and MAC, IP and World Wide addresses in the recording, the same by the same")
	flags.StringVar(&o.comment, "comment", "", "which machine it is, for the recording")
	flags.StringVar(&o.play, "play", "", "describe the machine that `FILE` is a recording of")
	flags.Usage = func() { fmt.Fprint(messages, detectUsage); flags.PrintDefaults() }
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("agent detect takes no argument %q: see agent detect -h", flags.Arg(0))
	}
	if o.anonymous && o.record == "" {
		return errors.New("-anonymous is for recordings: name a file with -record")
	}
	return o.run(ctx, out, messages)
}

func (o detectOptions) run(ctx context.Context, out, messages io.Writer) error {
	var source detect.Source
	if o.play == "" {
		cmdline, err := machine.Cmdline()
		if err != nil {
			return err
		}
		boot, _ := wire.ParseBootArgs(cmdline) // what cannot be read keeps its default
		neighbours := network.Listen(ctx)
		defer neighbours.Close()
		source = thisMachine(neighbours, boot)
	} else {
		text, err := os.ReadFile(o.play)
		if err != nil {
			return err
		}
		rec, err := detect.DecodeRecording(text)
		if err != nil {
			return fmt.Errorf("%s: %w", o.play, err)
		}
		source = rec.Source()
	}
	if o.record != "" {
		return o.write(ctx, source, out, messages)
	}
	h, err := source.Hardware(ctx, slog.New(slog.NewTextHandler(messages, nil)))
	if err != nil {
		return err
	}
	return wire.EncodeHardware(out, h)
}

// write makes a recording.
func (o detectOptions) write(ctx context.Context, source detect.Source, out, messages io.Writer) error {
	rec, h, err := source.Record(ctx, o.comment)
	if err != nil {
		return err
	}
	if o.anonymous {
		rec = rec.Anonymous([]byte(rand.Text()))
	}
	text, err := json.MarshalIndent(rec, "", " ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	if o.record == "-" {
		_, err = out.Write(text)
		return err
	}
	if err := renameio.WriteFile(o.record, text, 0o600); err != nil {
		return fmt.Errorf("write recording: %w", err)
	}
	fmt.Fprintf(messages, "%s: %d files, %d answers of programs; the description has %d facts\n", o.record, len(rec.Files)+len(rec.Binary), len(rec.Programs), len(h))
	return nil
}
