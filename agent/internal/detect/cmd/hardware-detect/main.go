// Command hardware-detect prints the hardware description of the machine it
// runs on, as the agent uploads it. With -record COMMENT it prints what the
// description is made from, for a test or a bug report.
//
// It reads what package detect reads and writes to its standard output only.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"edeploy/agent/internal/detect"
	"edeploy/server/wire"
)

func main() {
	comment := flag.String("record", "", "print a recording with this `comment` (which machine, from where)")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(context.Background(), os.Stdout, *comment, log); err != nil {
		fmt.Fprintln(os.Stderr, "hardware-detect:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, comment string, log *slog.Logger) error {
	if comment != "" {
		recording, err := detect.ThisMachine().Record(comment)
		if err != nil {
			return err
		}
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", " ")
		return encoder.Encode(recording)
	}
	h, err := detect.Hardware(ctx, log)
	if err != nil {
		return err
	}
	return wire.EncodeHardware(out, h)
}
