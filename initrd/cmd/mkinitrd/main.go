// Command mkinitrd builds the initrd that machines are installed from, and
// puts the kernel that fits beside it.
//
// It reads a Debian tree (tar), the Go module in the current directory and the
// module cache, and writes two files, and the add-ons of that initrd when it is
// told where to.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"edeploy/initrd"
)

func main() {
	c := initrd.Config{Module: "."}
	flag.StringVar(&c.Tools, "tools", "", "archive of the Debian tree with the tools (tar, plain, gzip or zstd)")
	flag.StringVar((*string)(&c.Kernel), "kernel", string(initrd.Gokrazy), "kernel variant: gokrazy or debian")
	flag.StringVar(&c.Agent, "agent", "edeploy/agent/cmd/agent", "Go package of the agent")
	flag.StringVar(&c.Initrd, "o", "out/initrd.pxe", "initrd to write")
	flag.StringVar(&c.Vmlinuz, "vmlinuz", "out/vmlinuz", "kernel to write")
	flag.StringVar(&c.Addons, "addons", "", "directory to write the add-ons to; none are made without it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := build(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "mkinitrd:", err)
		os.Exit(1)
	}
}

func build(ctx context.Context, c initrd.Config) error {
	if c.Tools == "" || flag.NArg() > 0 {
		return fmt.Errorf("want -tools FILE and no other arguments (see -help)")
	}
	if err := initrd.Build(ctx, c); err != nil {
		return err
	}
	written := []string{c.Vmlinuz, c.Initrd}
	if c.Addons != "" {
		addons, err := filepath.Glob(filepath.Join(c.Addons, "*.edeploy"))
		if err != nil {
			return err
		}
		written = append(written, addons...)
	}
	for _, name := range written {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %.1f MB\n", name, float64(info.Size())/1e6)
	}
	return nil
}
