package transaction

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

// ParseMounts answers "PATH SOURCE TYPE" of each.
func ParseMounts(text, root string) []string {
	var all []string
	for _, m := range parseMounts(text, root) {
		all = append(all, m.path+" "+m.source+" "+m.fsType)
	}
	return all
}
