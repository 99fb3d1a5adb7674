package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// journalFile is the name of the journal in the journal directory.
const journalFile = "journal"

// maxJournalBytes bounds the journal: a change of many documents with their old
// texts, each up to MaxDocumentBytes.
const maxJournalBytes = 256 << 20

// errDamaged: a file is none that a Dir has written.
var errDamaged = errors.New("damaged")

// intent is one change of a commit as the journal keeps it: with the new text
// to finish it and the old one to take it back.
type intent struct {
	Change
	Old []byte
}

func changesOf(intents []intent) []Change {
	all := make([]Change, len(intents))
	for i, in := range intents {
		all[i] = in.Change
	}
	return all
}

// writeJournal is the point of no return: before it nothing has happened,
// after it the commit will be finished.
func (d *Dir) writeJournal(intents []intent) error {
	text, err := json.Marshal(intents)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if len(text) > maxJournalBytes {
		return fmt.Errorf("write journal: the change has %d bytes with the old texts, %d are possible: %w", len(text), maxJournalBytes, ErrTooLarge)
	}
	return d.replace(d.journal, journalFile, text, 0o600)
}

func (d *Dir) removeJournal() error {
	if err := d.remove(d.journal, journalFile); err != nil {
		return err
	}
	d.pending = false
	return nil
}

// settle finishes a commit that an earlier error left unfinished.
func (d *Dir) settle() error {
	if !d.pending {
		return nil
	}
	_, err := d.recover()
	d.unfinished.Store(d.pending)
	return err
}

// recover works off the journal, if there is one.
func (d *Dir) recover() (Recovery, error) {
	var plan recoveryPlan
	intents, err := d.readJournal()
	if err == nil && len(intents) == 0 {
		d.pending = false
		return Recovery{Outcome: Nothing}, nil
	}
	if err == nil {
		plan, err = d.planRecovery(intents)
	}
	if errors.Is(err, errDamaged) {
		return d.putAside(err)
	}
	if err != nil {
		return Recovery{}, err
	}
	for _, c := range plan.changes {
		if err := d.put(c.Name, c.Text, c.Delete); err != nil {
			return Recovery{}, fmt.Errorf("finish an interrupted commit: %w", err)
		}
	}
	if err := d.removeJournal(); err != nil {
		return plan.Recovery, err
	}
	if plan.Outcome == Finished {
		d.made(changesOf(intents))
	}
	return plan.Recovery, nil
}

func (d *Dir) readJournal() ([]intent, error) {
	text, _, err := readFile(d.journal.OpenFile, journalFile, maxJournalBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var intents []intent
	if err := json.Unmarshal(text, &intents); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	for _, in := range intents {
		if _, _, err := d.locate(in.Name); err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
	}
	return intents, nil
}

// maxAside bounds the damaged journals that are kept.
const maxAside = 9

// putAside gives a damaged journal another name. It is written whole and synced
// before its name appears, so this is not our doing, and guessing what it may
// have said would make it worse.
func (d *Dir) putAside(damage error) (Recovery, error) {
	aside := journalFile + ".broken"
	for n := 2; n <= maxAside; n++ {
		if _, err := d.journal.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s.broken%d", journalFile, n)
	}
	if err := d.step("put aside " + journalFile); err != nil {
		return Recovery{}, err
	}
	if err := d.journal.Rename(journalFile, aside); err != nil {
		return Recovery{}, fmt.Errorf("put the damaged journal aside: %w", err)
	}
	d.pending = false
	return Recovery{Outcome: Damaged, Aside: aside, Damage: damage}, d.sync(d.journal, journalFile)
}

// recoveryPlan is what recover will do.
type recoveryPlan struct {
	Recovery
	changes []Change
}

// planRecovery reads what became of the documents and decides.
func (d *Dir) planRecovery(intents []intent) (recoveryPlan, error) {
	found := make([]Version, len(intents))
	for i, in := range intents {
		is, err := d.get(in.Name)
		if err != nil && !errors.Is(err, ErrNotExist) {
			return recoveryPlan{}, err
		}
		found[i] = is.Version
	}
	return plan(intents, found), nil
}

// plan decides how an interrupted commit ends: forwards when every document is
// either the old or the new one, backwards when somebody edited one.
func plan(intents []intent, found []Version) recoveryPlan {
	p := recoveryPlan{Recovery: Recovery{Outcome: Finished}}
	for i, in := range intents {
		p.Names = append(p.Names, in.Name)
		if found[i] != in.Was && found[i] != in.becomes() {
			p.Outcome = Undone
			p.Edited = append(p.Edited, in.Name)
		}
	}
	for i, in := range intents {
		switch {
		case p.Outcome == Finished && found[i] == in.Was:
			p.changes = append(p.changes, in.Change)
		case p.Outcome == Undone && found[i] == in.becomes():
			p.changes = append(p.changes, Change{Name: in.Name, Text: in.Old, Delete: in.Was == Absent})
		}
	}
	return p
}
