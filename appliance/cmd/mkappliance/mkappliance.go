// Mkappliance packs the appliance's disk image and its update archive.
//
// It reads go.mod and go.sum of this module (every version in the image comes
// from there), the boot files (-boot), and the first content of /perm
// (-perm); it runs the go command and mke2fs; it writes the image, the update
// archive, and the gokrazy instance in -work, which makes the next build
// faster.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"edeploy/appliance/internal/image"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mkappliance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("mkappliance", flag.ExitOnError)
	s := image.Spec{Output: os.Stderr}
	flags.StringVar(&s.Module, "module", ".", "directory of go.mod")
	flags.StringVar(&s.WorkDir, "work", "out/gokrazy", "gokrazy instance, kept between builds")
	flags.StringVar(&s.BootDir, "boot", "out/boot", "directory with vmlinuz, initrd.pxe and the loaders")
	flags.StringVar(&s.PermDir, "perm", "out/perm", "first content of /perm")
	flags.StringVar(&s.Version, "version", "unknown", "version that the appliance shows")
	size := flags.Int64("size", 8192, "size of the image in MiB; the file is sparse")
	out := flags.String("o", "out/appliance.img", "image to write")
	update := flags.String("update", "", "update archive to write, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s.Size = *size << 20
	return image.Build(ctx, s, *out, *update)
}
