// Edeploy is the command of an installed machine: what is it, is it still what
// it was installed as, and what would an upgrade change?
//
//	edeploy version | role | profile
//	edeploy verify [--fetch] [--all] [--json]
//	edeploy list
//	edeploy test-upgrade VERSION [--json]
//
// It reads:
//
//	/var/lib/edeploy/conf      version, role, profile and servers of this machine
//	/var/lib/edeploy/manifest  mtree(5) text: what the disk must be equal to
//	/var/lib/edeploy/local     paths that the installation itself wrote
//
// and, from its server, manifests and upgrade metadata. It writes nothing but
// temporary directories. Exit status: 0 good,
// 1 verify found differences or the command failed, 2 verify could not look.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	status := program{args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr, terminal: isTerminal(os.Stderr)}.run(ctx)
	stop()
	os.Exit(status)
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
