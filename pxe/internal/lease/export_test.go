package lease

// Sizes are how many machines the table remembers, with an address and with an
// offer.
func (t *Table) Sizes() (owned, offered int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.owned), len(t.offered)
}

// Text is the table as a file that is written whole has it.
func (t *Table) Text() string { return string(t.all(t.conf.Now())) }
