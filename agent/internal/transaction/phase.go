package transaction

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
)

// Phase is how far a transaction is.
type Phase string

// The phases. What Recover does in each is in brackets. The first word of the
// file /.edeploy/phase is one of them; no file means PhaseIdle.
const (
	PhaseIdle      Phase = "idle"      // no transaction, nothing kept
	PhaseKept      Phase = "kept"      // at rest; the last upgrade can be rolled back
	PhaseStaging   Phase = "staging"   // new nodes are made in the slots (discard)
	PhaseStaged    Phase = "staged"    // the journal is complete; Pre runs (discard)
	PhaseApplying  Phase = "applying"  // the tree is changed (undo)
	PhasePost      Phase = "post"      // Post runs (undo)
	PhaseCommitted Phase = "committed" // the new version is the version (finish)
	PhaseArming    Phase = "arming"    // a rollback is about to begin (finish)
	PhaseUndoing   Phase = "undoing"   // the old version is brought back (undo)
	PhaseUndone    Phase = "undone"    // the old version is the version (finish)
)

var phases = []Phase{PhaseIdle, PhaseKept, PhaseStaging, PhaseStaged, PhaseApplying, PhasePost, PhaseCommitted, PhaseArming, PhaseUndoing, PhaseUndone}

// Interrupted tells whether Recover has something to do when no transaction runs.
func (p Phase) Interrupted() bool { return p != PhaseIdle && p != PhaseKept }

// changing tells whether the tree may be between two versions.
func (p Phase) changing() bool { return p == PhaseApplying || p == PhasePost || p == PhaseUndoing }

// new tells whether the tree is surely the new version.
func (p Phase) new() bool { return p == PhaseKept || p == PhaseCommitted || p == PhaseArming }

type state struct {
	phase   Phase
	current int // number of the transaction; the kept one in PhaseKept, 0 in PhaseIdle
	kept    int // one before it that can be rolled back when this one is not committed, or 0
}

const phasePath = Dir + "/phase"

func (d *disk) readState() (state, error) {
	text, err := d.readFile(phasePath, 1000)
	if isAbsent(err) {
		return state{phase: PhaseIdle}, nil
	}
	if err != nil {
		return state{}, err
	}
	s, err := parseState(string(text))
	if err != nil {
		return s, fmt.Errorf("read %s: %w: %w", d.name(phasePath), ErrDamaged, err)
	}
	return s, nil
}

func parseState(text string) (state, error) {
	var s state
	if n, err := fmt.Sscanf(text, "%s %d %d\n", &s.phase, &s.current, &s.kept); err != nil || n != 3 || text != s.text() {
		return s, fmt.Errorf("%.60q is not a phase and two numbers", text)
	}
	if !slices.Contains(phases, s.phase) || s.current < 0 || s.kept < 0 {
		return s, fmt.Errorf("phase %q is unknown", s.phase)
	}
	if (s.phase == PhaseIdle) != (s.current == 0) {
		return s, errors.New("the number of the transaction is missing")
	}
	return s, nil
}

func (s state) text() string { return fmt.Sprintf("%s %d %d\n", s.phase, s.current, s.kept) }

func (d *disk) writeState(s state) error { return d.write(phasePath, []byte(s.text())) }

// rest is the state when the current transaction is gone.
func (s state) rest() state {
	if s.kept == 0 {
		return state{phase: PhaseIdle}
	}
	return state{phase: PhaseKept, current: s.kept}
}

// slots is the directory of a transaction on the file system mounted at mount.
func slots(mount string, number int) string {
	return path.Join(mount, Dir, strconv.Itoa(number))
}
