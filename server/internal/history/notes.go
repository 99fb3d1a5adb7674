package history

import (
	"slices"

	"edeploy/server/api"
)

// Bounds of the notes about machines that are not known: any device on the
// network can cause some.
const (
	maxNoted     = 1000
	notesPerName = 10
)

// notes are the last words about MAC addresses that nobody knows.
type notes struct {
	lines map[string][]api.HistoryLine
	order []string // of arrival
}

func newNotes() *notes { return &notes{lines: map[string][]api.HistoryLine{}} }

func (n *notes) add(mac string, line api.HistoryLine) {
	if _, ok := n.lines[mac]; !ok {
		n.order = append(n.order, mac)
	}
	all := append(n.lines[mac], line)
	n.lines[mac] = all[max(0, len(all)-notesPerName):]
	if len(n.order) > maxNoted {
		delete(n.lines, n.order[0])
		n.order = n.order[1:]
	}
}

// take answers what was noted about these addresses, and forgets it.
func (n *notes) take(macs []string) (all []api.HistoryLine) {
	for _, mac := range macs {
		if noted, ok := n.lines[mac]; ok {
			all = append(all, noted...)
			delete(n.lines, mac)
			n.order = slices.DeleteFunc(n.order, func(s string) bool { return s == mac })
		}
	}
	return all
}
