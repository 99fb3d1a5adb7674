package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// journalFile is the name of the journal in the journal directory.
const journalFile = "journal"

// intent is one change of a commit as the journal keeps it: with the new text
// to finish it and the old one to take it back.
type intent struct {
	Change
	Old []byte
}

// writeJournal is the point of no return: before it nothing has happened,
// after it the commit will be finished.
func (d *Dir) writeJournal(intents []intent) error {
	text, err := json.Marshal(intents)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
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
	return err
}

// recover works off the journal, if there is one.
func (d *Dir) recover() (Recovery, error) {
	intents, err := d.readJournal()
	if err != nil {
		return Recovery{}, err
	}
	if len(intents) == 0 {
		d.pending = false
		return Recovery{Outcome: Nothing}, nil
	}
	plan, err := d.planRecovery(intents)
	if err != nil {
		return Recovery{}, err
	}
	for _, c := range plan.changes {
		if err := d.put(c.Name, c.Text, c.Delete); err != nil {
			return Recovery{}, fmt.Errorf("finish an interrupted commit: %w", err)
		}
	}
	return plan.Recovery, d.removeJournal()
}

func (d *Dir) readJournal() ([]intent, error) {
	text, err := readFile(d.journal, journalFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var intents []intent
	if err := json.Unmarshal(text, &intents); err != nil {
		// It is written whole and synced before its name appears, so this is
		// not our doing and guessing would make it worse.
		return nil, fmt.Errorf("the file %s of the state directory is damaged (%w): move it away and compare the machine records with state and CMDB", journalFile, err)
	}
	return intents, nil
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
