// Edeploy is the command of an installed machine: what is it, is it still what
// it was installed as, and how does it become another version?
//
//	edeploy version | role | profile
//	edeploy verify [--fetch] [--all] [--json]
//	edeploy list
//	edeploy test-upgrade VERSION [--json]
//	edeploy upgrade VERSION [--dry-run] [--no-reboot] [--no-guard] [--json]
//	edeploy rollback
//	edeploy recover [--early]
//	edeploy report
//	edeploy loader
//	edeploy status [--json]
//	edeploy completion SHELL
//
// It reads:
//
//	/var/lib/edeploy/conf      version, role, profile and servers of this machine
//	/var/lib/edeploy/manifest  mtree(5) text: what the disk must be equal to
//	/var/lib/edeploy/local     paths that the installation itself wrote
//	/proc                      which processes still run what was replaced
//
// and, from its server, manifests, upgrade metadata and content. An upgrade
// writes, besides the tree and the first two:
//
//	/var/lib/edeploy/VERSION/                 the metadata of the upgrade to it
//	/var/log/edeploy/upgrade-FROM-TO.log      what was said, and the scripts' output
//	/var/lib/edeploy/unheard                  what its server has not heard of it
//	/.edeploy                                 the transaction, and what a rollback needs
//	/boot/edeploy, /boot/grub/custom.cfg      the boot guard, while the tree is changed
//	/boot/efi                                 shim and GRUB, by the command loader
//
// Exit status: 0 good; 1 verify found differences or the command failed; 2
// verify or upgrade could not look; 100 done, and a reboot is needed.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	// A session that is lost must not end an upgrade half-way. The signals are
	// taken, not ignored: what is ignored stays so in the scripts.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	status := program{args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr, terminal: isTerminal(os.Stderr)}.run(ctx)
	stop()
	os.Exit(status)
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
