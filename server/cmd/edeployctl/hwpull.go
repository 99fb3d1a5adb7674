package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"edeploy/server/api"
	"edeploy/server/internal/upload"
	"edeploy/server/wire"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

const hwPullLong = `Pull writes the last hardware description of every machine that the server knows into DIR (default: machines), one file
ID.json each. Files of machines that the server does not know any more stay. "match --all", "lint --machines", "hw groups" and
"hw diff" read them.`

func newHWPullCommand(client *api.Client) *cobra.Command {
	return &cobra.Command{
		Use:     "pull [DIR]",
		Short:   "Fetch the hardware descriptions of all machines from the server",
		Long:    hwPullLong,
		Example: "  edeployctl hw pull machines\n  edeployctl match --all machines --config profiles",
		Args:    cobra.MaximumNArgs(1),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			return pullHardware(cmd.Context(), client, append(args, "machines")[0], cmd.ErrOrStderr())
		}),
		ValidArgsFunction: completeDirectory,
	}
}

func newHWShowCommand(client *api.Client) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Print the last hardware description of a machine, in JSON",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return printRaw(cmd, client, api.MachinePath(args[0], "hardware"))
		},
		ValidArgsFunction: completeMachine(client),
	}
}

func pullHardware(ctx context.Context, client *api.Client, dir string, stderr io.Writer) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	n, without, err := eachHardware(ctx, client, stderr, func(id string, text []byte) error {
		return renameio.WriteFile(filepath.Join(dir, filepath.Base(id)+".json"), text, 0o644)
	})
	sentence := plural(n, "description") + " in " + dir
	if without > 0 {
		sentence += fmt.Sprintf("; %s %s sent none", plural(without, "machine"), verb(without, "has", "have"))
	}
	return sentence, err
}

// eachHardware fetches the description of every machine that has sent one, and
// counts those that have not. What takes its time says how far it is.
func eachHardware(ctx context.Context, client *api.Client, stderr io.Writer, do func(id string, text []byte) error) (n, without int, err error) {
	all, err := client.Machines(ctx)
	if err != nil {
		return 0, 0, err
	}
	shown := time.Now()
	for i, m := range all {
		text, err := client.Hardware(ctx, m.ID)
		switch {
		case api.StatusOf(err) == http.StatusNotFound:
			without++
			continue
		case err != nil:
			return n, without, fmt.Errorf("hardware of machine %s: %w", m.ID, err)
		}
		if err := do(m.ID, text); err != nil {
			return n, without, err
		}
		n++
		if time.Since(shown) > 2*time.Second {
			shown = time.Now()
			fmt.Fprintf(stderr, "%d of %s\n", i+1, plural(len(all), "machine"))
		}
	}
	return n, without, nil
}

// knownHardware are the descriptions of the server's machines, by id.
func knownHardware(ctx context.Context, client *api.Client, stderr io.Writer) (map[string]wire.Hardware, error) {
	known := map[string]wire.Hardware{}
	_, _, err := eachHardware(ctx, client, stderr, func(id string, text []byte) error {
		hw, err := upload.ParseHardware(text)
		known[id] = hw
		return err
	})
	return known, err
}
