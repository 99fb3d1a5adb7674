package install

import (
	"context"
	"log/slog"
	"strings"

	"edeploy/agent/internal/addon"
	"edeploy/agent/internal/source"
	"edeploy/server/wire"
)

// ramdisk is what add-ons are laid over.
func (in *installation) ramdisk(log *slog.Logger) addon.Ramdisk {
	return addon.Ramdisk{
		Transfer: source.Transfer{Log: log, FirstPause: in.env.FirstPause, LongestPause: in.env.LongestPause, Patience: in.env.Patience},
		Args:     in.args, Root: in.env.Root, Memory: in.env.FreeMemory,
	}
}

// layAddons lays the add-ons of ADDONS over the ramdisk. Those that fail are
// said on the console, and answered as facts: what they would have shown is
// missing in the description.
func (in *installation) layAddons(ctx context.Context, log *slog.Logger) (skipped wire.Hardware) {
	for _, name := range in.args.AddonNames() {
		if err := in.ramdisk(log).Lay(ctx, name); err != nil {
			log.Warn(err.Error())
			skipped = append(skipped, wire.Fact{Category: "system", ID: "detection", Field: "skipped", Value: strings.ReplaceAll(err.Error(), "\n", ", ")})
		}
	}
	return skipped
}
