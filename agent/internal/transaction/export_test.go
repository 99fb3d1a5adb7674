package transaction

import "github.com/moby/sys/mountinfo"

// WithHooks answers the machine with what tests put before the kernel: step is
// called before every change of the disk; exchange false makes it a file
// system that cannot exchange names. Nothing is synced.
func (m Machine) WithHooks(step func(operation string) error, exchange bool) Machine {
	m.test = &hooks{step: step, noSync: true, noExchange: !exchange}
	return m
}

// DecodeJournal reads a journal and writes it again.
func DecodeJournal(text []byte) ([]byte, error) {
	j, err := decodeJournal(text)
	if err != nil {
		return nil, err
	}
	return j.encode()
}

// ParseState reads a phase file and writes it again.
func ParseState(text string) (string, error) {
	s, err := parseState(text)
	return s.text(), err
}

// Mounts answers "PATH SOURCE TYPE" of each.
func Mounts(all []*mountinfo.Info, root string) []string {
	var shown []string
	for _, m := range newTable(all, root) {
		shown = append(shown, m.path+" "+m.source+" "+m.fsType)
	}
	return shown
}
