package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"edeploy/server/api"
	"edeploy/server/wire"

	"github.com/spf13/cobra"
)

const wipeLong = `Erase all disks of a machine that is taken out of service.

The machine is shown with its disks, as it last described them, and is asked about twice: the second answer is its name. In a script,
--force NAME with that name stands for both answers.

Nothing happens before the machine boots from the network: restart it. Right before it erases anything it asks the server once
more; until then "release" takes it back. Removable disks, and those behind a network, are left as they are. "show" tells how
far it is, then how each disk was erased and what was read back of it.

When all disks are erased, the machine gives back its profile, count and CMDB entry, and waits: "reinstall" or "release" let it be installed
again. When one is not, "problems" names it.`

func newWipeAnywayCommand(client *api.Client) *cobra.Command {
	return &cobra.Command{
		Use:   "wipe-anyway ID",
		Short: "Let a machine overwrite the data that its installation has asked about, once",
		Long: `Let a machine that is held because of data on its disks overwrite it: "problems" says which data, on which disks. It is
installed when it boots again. This holds until it is installed, and for what was there when it asked: it asks again about anything
else. What asks is the line "# edeploy: wipe ask" in the specs of its profile, or wipe('ask') in its script.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			m, err := client.WipeAnyway(cmd.Context(), args[0])
			return fmt.Sprintf("machine %s (%s) is installed when it boots again", m.ID, m.DisplayName), err
		}),
	}
}

type wiping struct {
	client   *api.Client
	force    string // the name of the machine
	terminal terminal
}

func newWipeCommand(client *api.Client) *cobra.Command {
	w := wiping{client: client}
	cmd := &cobra.Command{
		Use:               "wipe ID",
		Short:             "Erase all disks of a machine at its next boot, and prove it",
		Long:              wipeLong,
		Example:           "  edeployctl wipe node7\n  edeployctl wipe 52:54:00:12:34:56 --force node7",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeMachine(client),
		RunE: printsSentence(func(cmd *cobra.Command, args []string) (string, error) {
			w.terminal = terminalOf(cmd)
			return w.one(cmd.Context(), args[0])
		}),
	}
	cmd.Flags().StringVar(&w.force, "force", "", "do not ask; `NAME` is that of the machine")
	return cmd
}

// one goes by the id from the first answer on: a name may be another machine's
// a minute later.
func (w wiping) one(ctx context.Context, word string) (string, error) {
	m, err := w.client.Machine(ctx, word)
	if err != nil {
		return "", err
	}
	name := cmp.Or(m.DisplayName, m.ID)
	switch {
	case w.force != "" && w.force != name:
		return "", fmt.Errorf("machine %s is called %s, and not %s: nothing was changed", m.ID, name, w.force)
	case w.force == "" && !w.terminal.there:
		return "", unseen(fmt.Errorf("wipe asks twice, and there is no terminal: --force %s erases the disks of machine %s", name, m.ID))
	case w.force == "":
		if err := w.confirm(ctx, m, name); err != nil {
			return "", err
		}
	}
	m, err = w.client.SetBoot(ctx, m.ID, "wipe")
	return fmt.Sprintf("machine %s (%s) erases its disks when it boots from the network; until it begins, edeployctl release %s takes it back", m.ID, m.DisplayName, m.ID), err
}

// confirm asks twice.
func (w wiping) confirm(ctx context.Context, m api.Machine, name string) error {
	disks, err := w.disks(ctx, m)
	if err != nil {
		return err
	}
	printWiped(w.terminal.out, m, disks)
	if !w.terminal.confirms("\nEverything on its disks is destroyed. Erase them?") {
		return errors.New("nothing was changed")
	}
	if w.terminal.ask(fmt.Sprintf("The name of the machine, %s, to erase its disks:", printable(name))) != name {
		return errors.New("that is not its name: nothing was changed")
	}
	return nil
}

// printWiped shows which machine is meant.
func printWiped(out io.Writer, m api.Machine, disks []string) {
	t := newTable(out)
	profile := ""
	if m.Allocation != nil {
		profile = m.Allocation.Profile
	}
	for _, row := range [][2]string{{"machine", m.ID}, {"name", m.DisplayName}, {"MAC", strings.Join(m.MACs, " ")}, {"UUID", m.UUID},
		{"serial", m.Serial}, {"model", m.Model}, {"profile", profile}, {"now", m.Now}} {
		if row[1] != "" {
			t.row(row[0], strings.ReplaceAll(row[1], "\n", " "))
		}
	}
	for _, disk := range disks {
		t.row("disk", disk)
	}
	t.Flush()
}

// disks are the disks of a machine in words, as it last described them.
func (w wiping) disks(ctx context.Context, m api.Machine) ([]string, error) {
	text, err := w.client.Hardware(ctx, m.ID)
	if api.StatusOf(err) == http.StatusNotFound {
		return []string{"not known: the machine has not described its hardware yet"}, nil
	}
	if err != nil {
		return nil, err
	}
	hw, err := wire.DecodeHardware(strings.NewReader(string(text)))
	if err != nil {
		return nil, err
	}
	var disks []string
	for _, f := range hw {
		if f.Category == "disk" && f.Field == "size" {
			disks = append(disks, diskText(hw, f))
		}
	}
	if disks == nil {
		disks = []string{"none, as far as the machine has described itself"}
	}
	return disks, nil
}

func diskText(hw wire.Hardware, size wire.Fact) string {
	words := []string{size.Text() + " GB"}
	for _, field := range []string{"vendor", "model", "serial", "transport"} {
		if value, ok := hw.Find("disk", size.ID, field); ok && value != "" {
			words = append(words, map[string]string{"serial": "serial "}[field]+value)
		}
	}
	if removable, _ := hw.Find("disk", size.ID, "removable"); removable == "1" {
		words = append(words, "removable")
	}
	return size.ID + ": " + strings.Join(words, ", ")
}

// wipeText says what became of a machine's disks.
func wipeText(w *api.Wipe) string {
	if w == nil {
		return ""
	}
	text := "begun " + moment(w.Begun)
	if !w.Ended.IsZero() {
		text += ", ended " + moment(w.Ended)
	}
	for _, d := range w.Disks {
		text += fmt.Sprintf("\n  %s (%s, serial %s, %.1f GB)", d, orDash(d.Model), orDash(d.Serial), float64(d.Bytes)/1e9)
	}
	return text
}
