// Command mkrole builds and examines role trees.
//
//	mkrole list                     the roles that can be built
//	mkrole build ROLE VERSION       an archive, its manifest and its package list
//	mkrole check ARCHIVE            will it boot, is it free of one machine's traces
//	mkrole diff A B                 what changed between two archives or manifests
//	mkrole metadata FROM TO         propose what upgrades leave alone, add and run
//
// It reads role definitions from images/roles (and before that from --roles), writes below
// out/install (--out), and obeys SOURCE_DATE_EPOCH: no file of a tree is newer.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mkrole:", err)
		stop()
		os.Exit(1)
	}
}
