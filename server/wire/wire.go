// Package wire holds everything that crosses a process boundary between the
// rooms of this repository: what a boot loader hands to the agent, what the
// agent tells the server, what the server answers, and how role trees are
// named on their way. It is a leaf: it imports the standard library only, and
// every room may import it.
//
// There is one file per message, in the order of a machine's journey:
// bootargs.go (step 2), identity.go and hardware.go (3), configuration.go (5),
// imageref.go (6), report.go (after every step), installed.go (7 and 8), wipe.go (the end).
package wire

// Protocol is the version of the messages in this package. A receiver accepts
// unknown fields and refuses an unknown version with a sentence that both
// consoles show.
//
// History:
//   - 1: 2026-11-22, first version.
const Protocol = 1
