// Package transaction carries an upgrade's plan out so that the machine is
// always one of two versions: everything new is staged beside the tree first,
// then put in place by renames that are written down in a journal, and every
// step can be undone, at once, after a power cut, or later as a rollback.
//
// It reads and writes below Machine.Root:
//
//	/.edeploy/lock       held (flock) while something is done; the pid
//	/.edeploy/phase      one line, replaced whole: PHASE N KEPT
//	/.edeploy/N/journal  what transaction N does, with a checksum
//	MOUNT/.edeploy/N/    its slots on one file system: first the nodes that are
//	                     to come, afterwards those that they replaced
//
// It also reads /proc/self/mountinfo, /dev/disk/by-uuid and etc/fstab of the tree.
package transaction

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"edeploy/agent/internal/plan"
	"edeploy/images/manifest"
	"edeploy/server/wire"
)

// Dir is the transaction's directory at the top of every file system that it
// changes. It is no part of a tree: leave it out of what is compared.
const Dir = ".edeploy"

// Errors that callers branch on.
var (
	// ErrReboot is Post's answer when all is good and a reboot is needed.
	ErrReboot = errors.New("a reboot is needed")

	// ErrBusy is wrapped when another process holds the lock.
	ErrBusy = errors.New("another upgrade is running")

	// ErrUnfinished is wrapped when Recover has to be called first.
	ErrUnfinished = errors.New("an upgrade was interrupted: recover first")

	// ErrNothingKept is wrapped by Rollback when there is no version to go back to.
	ErrNothingKept = errors.New("no version before this one is kept")

	// ErrDamaged is wrapped when the journal or the phase cannot be read.
	ErrDamaged = errors.New("the upgrade's records are damaged")

	// ErrChanged is wrapped when a path is not what the plan saw.
	ErrChanged = errors.New("it was changed meanwhile")

	// ErrSpace is wrapped when a file system has too little room.
	ErrSpace = errors.New("too little room")

	// ErrUndone is wrapped beside the cause when changes had begun, and the
	// machine was brought back to what it was.
	ErrUndone = errors.New("everything was put back")
)

// Step is a part of the work, for Progress.
type Step string

// The steps.
const (
	StepStage Step = "stage" // bytes of content
	StepPre   Step = "pre"   // 0 of 1, then 1 of 1
	StepApply Step = "apply" // operations
	StepPost  Step = "post"  // 0 of 1, then 1 of 1
	StepUndo  Step = "undo"  // operations
)

// Machine is an installed system.
type Machine struct {
	// Root is where the installed system is mounted; "/" on a running one.
	Root string

	// Guard keeps the machine bootable meanwhile; nil: none.
	Guard Guard

	// Log is silent when nil.
	Log *slog.Logger

	// Progress is told of every step, by one goroutine at a time; nil: none.
	Progress func(step Step, done, total int64)

	test *hooks
}

// Guard keeps the machine bootable while the root is between two versions.
type Guard interface {
	// Arm is called before the first change and is durable when it returns.
	Arm(ctx context.Context) error

	// Disarm is called after the last one, also when Arm was never called or
	// only by a process that died; it is nil when not armed.
	Disarm(ctx context.Context) error
}

// Source opens the content of a file of the target tree. Several goroutines
// call it at once.
type Source interface {
	Open(ctx context.Context, e *manifest.Entry) (io.ReadCloser, error)
}

// Upgrade is what is to be done.
type Upgrade struct {
	From, To wire.ImageRef

	// Plan has no conflicts. Disk and Target are what it was made of.
	Plan         *plan.Plan
	Disk, Target *manifest.Manifest

	Source Source

	// Own are state files that are replaced in the same transaction, path to
	// new content. They keep owner and mode; a new one is root's, 0644. What
	// the plan says of these paths does not count.
	Own map[string][]byte

	// Preserve are files outside the plan that scripts rewrite; undoing
	// restores them as they are now.
	Preserve []string

	// Pre runs when everything is staged, before the first change; Post after
	// the last one, and may answer ErrReboot. Nil: none.
	Pre, Post func(context.Context) error
}

// Result is what was done.
type Result struct {
	From wire.ImageRef `json:"from"` // of the machine, before
	To   wire.ImageRef `json:"to"`   // and after

	// Paths.
	Created  int `json:"created"`
	Replaced int `json:"replaced"`
	Changed  int `json:"changed"`
	Deleted  int `json:"deleted"`

	FetchedFiles int   `json:"fetched_files"` // content from the source
	FetchedBytes int64 `json:"fetched_bytes"`
	CopiedFiles  int   `json:"copied_files"` // and from elsewhere on the disk
	CopiedBytes  int64 `json:"copied_bytes"`

	Changing time.Duration `json:"-"` // from the first change of the tree to the last
	Total    time.Duration `json:"-"`
	Reboot   bool          `json:"-"` // Post asked for one
}

// Outcome is what Recover found to do.
type Outcome string

// The outcomes.
const (
	Nothing   Outcome = "nothing"   // no transaction was interrupted
	Discarded Outcome = "discarded" // the tree had not been changed; what was staged is removed
	Undone    Outcome = "undone"    // the tree is the old version again
	Finished  Outcome = "finished"  // the tree is the new version; what was left over is removed
)

// Status is how things are.
type Status struct {
	// Phase is PhaseIdle or PhaseKept at rest; anything else means that a transaction is
	// running or was interrupted.
	Phase Phase

	// From and To are the versions of the transaction; when Phase is PhaseKept,
	// To runs and a rollback leads to From. Empty when PhaseIdle.
	From, To wire.ImageRef

	Began     time.Time // when the transaction began
	Committed time.Time // when To became the version; zero before
	Running   int       // pid of the process that holds the lock, 0 when nobody does

	// Changed is when Phase became what it is; zero: there never was a
	// transaction. What was looked at between two equal values, while Phase let
	// nothing change, was one version.
	Changed time.Time

	// Bytes on disk of what is staged, and of what is kept for a rollback.
	StagedBytes, KeptBytes int64

	// Rollback is where Rollback would lead to, nil when nowhere.
	Rollback *wire.ImageRef

	// FileSystems are those the transaction lies on, the root first.
	FileSystems []FileSystem
}

// Changing tells whether the tree may be neither of two versions: it is being
// changed, or that was interrupted.
func (s Status) Changing() bool { return s.Phase.changing() }

// FileSystem is one of those that a transaction changes.
type FileSystem struct {
	Path   string `json:"path"`   // mount point below the root, "." is the root itself
	Source string `json:"source"` // as etc/fstab names it, else UUID=..., else the device
	Type   string `json:"type"`   // such as "ext4"
}
